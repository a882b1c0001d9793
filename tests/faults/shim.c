/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into the command: the n-th call of one kind fails, as a full disk, a lost file or a memory limit would make
 * it. FAULT_KIND names the kind, FAULT_AT which call (0: none, only count), FAULT_ON set: that one and all after it.
 * FAULT_LOG is where the number of calls seen goes at the end. `space` is no call: the disk is full once FAULT_AT bytes
 * have been written. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char* const kinds[] = {"none",  "alloc",  "open", "pread",  "write", "space", "short",
                                    "fsync", "rename", "link", "unlink", "close", "fstat", "thread"};
enum { NONE, ALLOC, OPEN, PREAD, WRITE, SPACE, SHORT, FSYNC, RENAME, LINK, UNLINK, CLOSE, FSTAT, THREAD, KINDS };

static int kind, go_on;
static long at;
static atomic_long seen, bytes;
static atomic_int ready;

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);

__attribute__((constructor)) static void begin(void) {
  const char *name = getenv("FAULT_KIND"), *number = getenv("FAULT_AT");
  for (int n = 0; name != NULL && n < KINDS; ++n) {
    if (strcmp(name, kinds[n]) == 0) kind = n;
  }
  at = number != NULL ? atol(number) : 0;
  go_on = getenv("FAULT_ON") != NULL;
  unsetenv("LD_PRELOAD"); /* a process that this one starts is not meant */
}

/* Faults begin with main: what libraries do to be loaded is not the command's to mend. */
static int (*own_main)(int, char**, char**);
static int main_with_faults(int count, char** arguments, char** environment) {
  atomic_store(&ready, 1);
  return own_main(count, arguments, environment);
}
int __libc_start_main(int (*main)(int, char**, char**), int count, char** arguments, void (*init)(void),
                      void (*fini)(void), void (*loader_fini)(void), void* stack) {
  int (*real)(int (*)(int, char**, char**), int, char**, void (*)(void), void (*)(void), void (*)(void), void*);
  *(void**)&real = dlsym(RTLD_NEXT, "__libc_start_main");
  own_main = main;
  return real(main_with_faults, count, arguments, init, fini, loader_fini, stack);
}

__attribute__((destructor)) static void end(void) {
  atomic_store(&ready, 0);
  const char* path = getenv("FAULT_LOG");
  if (path == NULL) return;
  const int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  char text[32];
  const int length = snprintf(text, sizeof text, "%ld\n", kind == SPACE ? atomic_load(&bytes) : atomic_load(&seen));
  if (fd >= 0 && syscall(SYS_write, fd, text, length) == length) syscall(SYS_close, fd);
}

static int fails(int which) {
  if (!atomic_load(&ready) || kind != which) return 0;
  const long n = atomic_fetch_add(&seen, 1) + 1;
  return at != 0 && (n == at || (go_on && n > at));
}

void* malloc(size_t n) { return fails(ALLOC) ? (errno = ENOMEM, (void*)0) : __libc_malloc(n); }
void* calloc(size_t a, size_t b) { return fails(ALLOC) ? (errno = ENOMEM, (void*)0) : __libc_calloc(a, b); }
void* realloc(void* p, size_t n) { return fails(ALLOC) ? (errno = ENOMEM, (void*)0) : __libc_realloc(p, n); }
void* aligned_alloc(size_t a, size_t n) { return fails(ALLOC) ? (errno = ENOMEM, (void*)0) : __libc_memalign(a, n); }
int posix_memalign(void** p, size_t a, size_t n) {
  if (fails(ALLOC)) return ENOMEM;
  void* const got = __libc_memalign(a, n);
  if (got == NULL) return ENOMEM;
  *p = got;
  return 0;
}

static int open_at(int folder, const char* path, int flags, mode_t mode) {
  if (fails(OPEN)) return errno = EMFILE, -1;
  return (int)syscall(SYS_openat, folder, path, flags, mode);
}
#define MODE                           \
  mode_t mode = 0;                     \
  if (flags & (O_CREAT | O_TMPFILE)) { \
    va_list rest;                      \
    va_start(rest, flags);             \
    mode = (mode_t)va_arg(rest, int);  \
    va_end(rest);                      \
  }
int open(const char* path, int flags, ...) { MODE return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char* path, int flags, ...) { MODE return open_at(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char* path, int flags, ...) { MODE return open_at(folder, path, flags, mode); }
int openat64(int folder, const char* path, int flags, ...) { MODE return open_at(folder, path, flags, mode); }

ssize_t pread(int fd, void* to, size_t n, off_t from) {
  return fails(PREAD) ? (errno = EIO, -1) : syscall(SYS_pread64, fd, to, n, from);
}
ssize_t pread64(int fd, void* to, size_t n, off_t from) { return pread(fd, to, n, from); }

ssize_t write(int fd, const void* from, size_t n) {
  if (fd <= 2) return syscall(SYS_write, fd, from, n);
  if (fails(WRITE)) return errno = EIO, -1;
  if (kind == SPACE && atomic_load(&ready)) {
    const long before = atomic_load(&bytes);
    if (at != 0 && before >= at) return errno = ENOSPC, -1;
    if (at != 0 && before + (long)n > at) n = (size_t)(at - before);
    atomic_fetch_add(&bytes, (long)n);
  }
  if (n > 1 && fails(SHORT)) n /= 2;
  return syscall(SYS_write, fd, from, n);
}

int fsync(int fd) { return fails(FSYNC) ? (errno = EIO, -1) : (int)syscall(SYS_fsync, fd); }
int renameat(int a, const char* from, int b, const char* to) {
  return fails(RENAME) ? (errno = EACCES, -1) : (int)syscall(SYS_renameat2, a, from, b, to, 0);
}
int linkat(int a, const char* from, int b, const char* to, int flags) {
  return fails(LINK) ? (errno = EACCES, -1) : (int)syscall(SYS_linkat, a, from, b, to, flags);
}
int unlinkat(int folder, const char* path, int flags) {
  return fails(UNLINK) ? (errno = EACCES, -1) : (int)syscall(SYS_unlinkat, folder, path, flags);
}
int close(int fd) {
  const int result = (int)syscall(SYS_close, fd);
  return fails(CLOSE) ? (errno = EIO, -1) : result;
}
int fstat(int fd, struct stat* out) {
  if (fails(FSTAT)) return errno = EIO, -1;
  return (int)syscall(SYS_newfstatat, fd, "", out, AT_EMPTY_PATH);
}

int pthread_create(pthread_t* thread, const pthread_attr_t* how, void* (*run)(void*), void* with) {
  static int (*real)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  if (real == NULL) *(void**)&real = dlsym(RTLD_NEXT, "pthread_create");
  return fails(THREAD) ? EAGAIN : real(thread, how, run, with);
}
