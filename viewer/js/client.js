// SPDX-License-Identifier: Apache-2.0
// Asks the engine: in a worker, so that the page stays awake, or in the page itself where the host allows no worker.
// Imports of the engine are for the second case.
import {Engine} from './engine.js';

export class Client {
  constructor(engineText) {
    this.waiting = new Map();
    this.next = 0;
    try {
      const url = URL.createObjectURL(new Blob([engineText], {type: 'text/javascript'}));
      this.worker = new Worker(url);
      this.worker.onmessage = ({data}) => this.answered(data);
      this.worker.onerror = (event) => {
        event.preventDefault();
        this.workHere();
      };
    } catch {
      this.workHere();
    }
  }

  // Without a worker: everything asked so far is asked again.
  workHere() {
    this.worker?.terminate();
    this.worker = null;
    this.engine = new Engine();
    for (const [id, {name, args}] of [...this.waiting]) this.run(id, name, args);
  }

  async run(id, name, args) {
    try {
      this.answered({id, answer: await this.engine[name](args)});
    } catch (error) {
      this.answered({id, error: String(error?.message ?? error)});
    }
  }

  answered({id, answer, error}) {
    const {resolve, reject} = this.waiting.get(id);
    this.waiting.delete(id);
    if (error) reject(new Error(error));
    else resolve(answer);
  }

  ask(name, args) {
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, {resolve, reject, name, args});
      if (this.worker) this.worker.postMessage({id, name, args});
      else this.run(id, name, args);
    });
  }
}

// One question at a time, and of those that come meanwhile only the newest.
export function newestOnly(work) {
  let busy = false, newest = null;
  return async function go(args) {
    newest = args;
    if (busy) return;
    busy = true;
    try {
      while (newest !== null) {
        const now = newest;
        newest = null;
        await work(now);
      }
    } finally {
      busy = false;
    }
  };
}
