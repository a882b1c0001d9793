// SPDX-License-Identifier: Apache-2.0
// The worker's side of client.js.

const engine = new Engine();
onmessage = async ({data: {id, name, args}}) => {
  try {
    const answer = await engine[name](args);
    const transfer = answer?.pixels ? [answer.pixels.buffer] : [];
    postMessage({id, answer}, transfer);
  } catch (error) {
    postMessage({id, error: String(error?.message ?? error)});
  }
};
