/* Failpoints from outside: a library to be preloaded into the real process. It counts every durable operation under one
 * folder (open for writing, write, truncate, fsync, rename, link, unlink, mkdir, rmdir), those of SQLite among them, and at
 * a chosen one kills the process group, fails with an errno, or writes half. Or it counts every operation that reads there
 * (open, read, mmap, stat, listing a folder), which may fail or read half. It can also write down all durable operations, with
 * their data, for crash states of a power loss, and put the wall clock wrong. The product has no hook for it, so production
 * pays nothing.
 *
 * FAULTS_CONTROL names a file with a `struct control`, mapped and shared by all processes of a run. Linux, glibc. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum action { NOTHING, KILL_BEFORE, KILL_AFTER, KILL_WITHIN, FAIL, SHORT, STOP };
enum op { OPEN = 1, WRITE, TRUNCATE, SYNC, SYNC_ALL, RENAME, LINK, UNLINK, SYMLINK, MKDIR, RMDIR, LOOK, READ, MAP, STAT, LIST };

struct control { /* tests/faults/__init__.py knows this layout */
  _Atomic int64_t count; /* operations so far */
  _Atomic int64_t first, last; /* act from this one to that one, inclusive */
  _Atomic int64_t acted; /* how often */
  _Atomic int32_t action, error;
  _Atomic int64_t clock_offset; /* nanoseconds that the wall clock is wrong */
  char root[1024];
  char record[1024]; /* a file; empty: nothing is written down */
  char what[2048]; /* the operation that was acted upon first */
  _Atomic int64_t stopped; /* the process that was stopped */
  _Atomic int32_t reads; /* count and act on reads, not on durable operations */
};

static struct control *control;
static int record_fd = -1;
static pthread_mutex_t in_order = PTHREAD_MUTEX_INITIALIZER;
static char *paths[65536]; /* by descriptor: where it leads, for those under root */

static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

void faults_attach(const char *file) {
  if (!real_open) {
    real_open = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64");
    real_openat = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat64");
    real_write = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    real_pwrite = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64");
  }
  control = NULL;
  if (!file || !*file) return;
  int fd = real_open(file, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  struct control *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (mapped == MAP_FAILED) return;
  if (mapped->record[0])
    record_fd = real_open(mapped->record, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  control = mapped;
}

__attribute__((constructor)) static void attach(void) { faults_attach(getenv("FAULTS_CONTROL")); }

static int below_root(const char *path, char *full) {
  if (!control || !path) return 0;
  if (path[0] == '/') snprintf(full, PATH_MAX, "%s", path);
  else {
    char here[PATH_MAX];
    if (!getcwd(here, sizeof here)) return 0;
    if (snprintf(full, PATH_MAX, "%s/%s", here, path) >= PATH_MAX) return 0;
  }
  size_t length = strlen(control->root), size = strlen(full);
  if (!length || strncmp(full, control->root, length) || (full[length] != '/' && full[length])) return 0;
  return !(size > 4 && !strcmp(full + size - 4, "-shm")); /* never durable: SQLite makes it anew */
}

static char *of_fd(int fd) { return control && fd >= 0 && fd < 65536 ? paths[fd] : NULL; }

static const char *names[] = {"", "open", "write", "truncate", "fsync", "syncfs", "rename", "link", "unlink", "symlink",
                              "mkdir", "rmdir", "look", "read", "map", "stat", "list"};

static void end(void) {
  kill(0, SIGKILL);
  for (;;) pause();
}

/* Counts one operation. NOTHING: go on. */
static enum action step(enum op op, const char *path, const char *other) {
  if ((op >= LOOK) != !!control->reads) return NOTHING;
  int64_t number = atomic_fetch_add(&control->count, 1) + 1;
  enum action action = atomic_load(&control->action);
  if (action == NOTHING || number < control->first || number > control->last) return NOTHING;
  if (atomic_fetch_add(&control->acted, 1) == 0)
    snprintf(control->what, sizeof control->what, "%s %s%s%s", names[op], path + strlen(control->root),
             other ? " > " : "", other ? (strncmp(other, control->root, strlen(control->root)) ? other : other + strlen(control->root)) : "");
  if (action == KILL_BEFORE || (action == KILL_WITHIN && op != WRITE)) end();
  if (action == STOP) {
    atomic_store(&control->stopped, getpid());
    kill(getpid(), SIGSTOP);
  }
  return action;
}

struct head {
  int32_t op, fd;
  int64_t offset, size;
  int32_t path, other;
};

static void note(enum op op, int fd, int64_t offset, const char *path, const char *other, const void *data, int64_t size) {
  struct head head = {op, fd, offset, size, path ? strlen(path) : 0, other ? strlen(other) : 0};
  struct iovec parts[] = {{&head, sizeof head}, {(void *)path, head.path}, {(void *)other, head.other},
                          {(void *)data, data ? size : 0}};
  if (!data && op == WRITE) parts[3].iov_len = 0;
  if (writev(record_fd, parts, 4) < 0) end();
}

/* The body of an intercepted call that changes names. */
#define NAMED(op, path, other, call)                                   \
  do {                                                                 \
    enum action action = step(op, path, other);                        \
    if (action == FAIL) { errno = control->error; return -1; }         \
    if (record_fd >= 0) pthread_mutex_lock(&in_order);                 \
    int result = call;                                                 \
    if (record_fd >= 0) {                                              \
      int kept = errno;                                                \
      if (result >= 0) note(op, result, 0, path, other, NULL, 0);      \
      pthread_mutex_unlock(&in_order);                                 \
      errno = kept;                                                    \
    }                                                                  \
    if (action == KILL_AFTER) end();                                   \
    return result;                                                     \
  } while (0)

/* The begin of an intercepted call that reads. */
#define READS(op, path, failed)                                         \
  do {                                                                  \
    if (step(op, path, NULL) == FAIL) { errno = control->error; return failed; } \
  } while (0)

static int opened(const char *full, int flags, int fd) {
  if (fd >= 0 && fd < 65536) {
    free(paths[fd]);
    paths[fd] = full ? strdup(full) : NULL;
  }
  return fd;
}

/* A path relative to an open folder; others as below_root. */
static int below_root_at(int folder, const char *path, char *full) {
  if (!control || !path || path[0] == '/' || folder == AT_FDCWD) return below_root(path, full);
  char *above = of_fd(folder), joined[PATH_MAX];
  if (!above || snprintf(joined, PATH_MAX, "%s/%s", above, path) >= PATH_MAX) return 0;
  return below_root(joined, full);
}

static int do_open(int folder, const char *path, int flags, mode_t mode) {
  char full[PATH_MAX];
  if (!below_root_at(folder, path, full)) return opened(NULL, flags, real_openat(folder, path, flags, mode));
  if (!(flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))) {
    READS(LOOK, full, -1);
    if (record_fd >= 0) pthread_mutex_lock(&in_order);
    int fd = opened(full, flags, real_openat(folder, path, flags, mode));
    if (record_fd >= 0) pthread_mutex_unlock(&in_order);
    return fd;
  }
  enum action action = step(OPEN, full, NULL);
  if (action == FAIL) {
    errno = control->error;
    return -1;
  }
  if (record_fd >= 0) pthread_mutex_lock(&in_order);
  int fd = opened(full, flags, real_openat(folder, path, flags, mode));
  if (record_fd >= 0) {
    int kept = errno;
    if (fd >= 0) note(OPEN, fd, flags & O_TRUNC ? 1 : 0, full, NULL, NULL, 0);
    pthread_mutex_unlock(&in_order);
    errno = kept;
  }
  if (action == KILL_AFTER) end();
  return fd;
}

#define OPENER(name)                                    \
  int name(const char *path, int flags, ...) {          \
    va_list more;                                       \
    va_start(more, flags);                              \
    mode_t mode = va_arg(more, int);                    \
    va_end(more);                                       \
    if (!real_open) attach();                           \
    return do_open(AT_FDCWD, path, flags, mode);        \
  }
OPENER(open)
OPENER(open64)

#define OPENER_AT(name)                                     \
  int name(int folder, const char *path, int flags, ...) {  \
    va_list more;                                           \
    va_start(more, flags);                                  \
    mode_t mode = va_arg(more, int);                        \
    va_end(more);                                           \
    if (!real_open) attach();                               \
    return do_open(folder, path, flags, mode);              \
  }
OPENER_AT(openat)
OPENER_AT(openat64)

int creat(const char *path, mode_t mode) { return open(path, O_WRONLY | O_CREAT | O_TRUNC, mode); }

int close(int fd) {
  REAL(close);
  if (fd >= 0 && fd < 65536 && paths[fd]) {
    free(paths[fd]);
    paths[fd] = NULL;
  }
  return real(fd);
}

static ssize_t do_write(int fd, const void *data, size_t size, off_t offset, int here) {
  char *path = of_fd(fd);
  if (!path) return here ? real_write(fd, data, size) : real_pwrite(fd, data, size, offset);
  enum action action = step(WRITE, path, NULL);
  if (action == FAIL) {
    errno = control->error;
    return -1;
  }
  if ((action == SHORT || action == KILL_WITHIN) && size > 1) size /= 2;
  if (record_fd >= 0) pthread_mutex_lock(&in_order);
  if (here && record_fd >= 0) {
    struct stat found;
    offset = fcntl(fd, F_GETFL) & O_APPEND && !fstat(fd, &found) ? found.st_size : lseek(fd, 0, SEEK_CUR);
  }
  ssize_t done = here ? real_write(fd, data, size) : real_pwrite(fd, data, size, offset);
  if (record_fd >= 0) {
    int kept = errno;
    if (done > 0) note(WRITE, fd, offset, path, NULL, data, done);
    pthread_mutex_unlock(&in_order);
    errno = kept;
  }
  if (action == KILL_AFTER || action == KILL_WITHIN) end();
  return done;
}

ssize_t write(int fd, const void *data, size_t size) {
  if (!real_open) attach();
  return do_write(fd, data, size, 0, 1);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return do_write(fd, data, size, offset, 0); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) { return do_write(fd, data, size, offset, 0); }

static int on_fd(enum op op, int fd, int64_t size, int (*call)(int, int64_t)) {
  char *path = of_fd(fd);
  if (!path) return call(fd, size);
  enum action action = step(op, path, NULL);
  if (action == FAIL) {
    errno = control->error;
    return -1;
  }
  if (record_fd >= 0) pthread_mutex_lock(&in_order);
  int result = call(fd, size);
  if (record_fd >= 0) {
    int kept = errno;
    if (!result) note(op, fd, size, path, NULL, NULL, 0);
    pthread_mutex_unlock(&in_order);
    errno = kept;
  }
  if (action == KILL_AFTER) end();
  return result;
}

static int call_truncate(int fd, int64_t size) { REAL(ftruncate64); return real(fd, size); }
static int call_fsync(int fd, int64_t size) { REAL(fsync); (void)size; return real(fd); }
static int call_fdatasync(int fd, int64_t size) { REAL(fdatasync); (void)size; return real(fd); }
static int call_syncfs(int fd, int64_t size) { REAL(syncfs); (void)size; return real(fd); }

int ftruncate(int fd, off_t size) { return on_fd(TRUNCATE, fd, size, call_truncate); }
int ftruncate64(int fd, off64_t size) { return on_fd(TRUNCATE, fd, size, call_truncate); }
int fsync(int fd) { return on_fd(SYNC, fd, 0, call_fsync); }
int fdatasync(int fd) { return on_fd(SYNC, fd, 0, call_fdatasync); }
int syncfs(int fd) { return on_fd(SYNC_ALL, fd, 0, call_syncfs); }

int rename(const char *from, const char *to) {
  REAL(rename);
  char one[PATH_MAX], other[PATH_MAX];
  if (!below_root(from, one) || !below_root(to, other)) return real(from, to);
  NAMED(RENAME, one, other, real(from, to));
}

int link(const char *from, const char *to) {
  REAL(link);
  char one[PATH_MAX], other[PATH_MAX];
  if (!below_root(from, one) || !below_root(to, other)) return real(from, to);
  NAMED(LINK, one, other, real(from, to));
}

int renameat(int old, const char *from, int new, const char *to) {
  REAL(renameat);
  char one[PATH_MAX], other[PATH_MAX];
  if (!below_root_at(old, from, one) || !below_root_at(new, to, other)) return real(old, from, new, to);
  NAMED(RENAME, one, other, real(old, from, new, to));
}

int renameat2(int old, const char *from, int new, const char *to, unsigned flags) {
  REAL(renameat2);
  char one[PATH_MAX], other[PATH_MAX];
  if (!below_root_at(old, from, one) || !below_root_at(new, to, other)) return real(old, from, new, to, flags);
  NAMED(RENAME, one, other, real(old, from, new, to, flags));
}

int linkat(int old, const char *from, int new, const char *to, int flags) {
  REAL(linkat);
  char one[PATH_MAX], other[PATH_MAX];
  if (!below_root_at(old, from, one) || !below_root_at(new, to, other)) return real(old, from, new, to, flags);
  NAMED(LINK, one, other, real(old, from, new, to, flags));
}

int unlinkat(int folder, const char *path, int flags) {
  REAL(unlinkat);
  char full[PATH_MAX];
  if (!below_root_at(folder, path, full)) return real(folder, path, flags);
  NAMED(UNLINK, full, NULL, real(folder, path, flags));
}

int symlink(const char *target, const char *path) {
  REAL(symlink);
  char full[PATH_MAX];
  if (!below_root(path, full)) return real(target, path);
  NAMED(SYMLINK, full, target, real(target, path));
}

#define ON_NAME(name, op, parameters, arguments)  \
  int name parameters {                           \
    REAL(name);                                   \
    char full[PATH_MAX];                          \
    if (!below_root(path, full)) return real arguments; \
    NAMED(op, full, NULL, real arguments);        \
  }
ON_NAME(unlink, UNLINK, (const char *path), (path))
ON_NAME(mkdir, MKDIR, (const char *path, mode_t mode), (path, mode))
ON_NAME(rmdir, RMDIR, (const char *path), (path))

/* ---- reads. What libc reads on its own (fopen) and what a page fault reads of a mapped file cannot be intercepted. */

/* Bytes to read from a descriptor; -1: fail. A read of an empty range is none. */
static int64_t readable(int fd, size_t size) {
  char *path = of_fd(fd);
  if (!path) return size;
  enum action action = step(READ, path, NULL);
  if (action == FAIL) {
    errno = control->error;
    return -1;
  }
  return action == SHORT && size > 1 ? size / 2 : size;
}

#define READER(name, parameters, arguments)     \
  ssize_t name parameters {                     \
    REAL(name);                                 \
    int64_t allowed = readable(fd, size);       \
    if (allowed < 0) return -1;                 \
    size = allowed;                             \
    return real arguments;                      \
  }
READER(read, (int fd, void *data, size_t size), (fd, data, size))
READER(pread, (int fd, void *data, size_t size, off_t offset), (fd, data, size, offset))
READER(pread64, (int fd, void *data, size_t size, off64_t offset), (fd, data, size, offset))
READER(sendfile, (int to, int fd, off_t *offset, size_t size), (to, fd, offset, size))
READER(sendfile64, (int to, int fd, off64_t *offset, size_t size), (to, fd, offset, size))
READER(copy_file_range, (int fd, off64_t *in, int to, off64_t *out, size_t size, unsigned flags),
       (fd, in, to, out, size, flags))

/* Of several buffers, a short read fills only the first. */
#define VECTOR_READER(name, parameters, arguments) \
  ssize_t name parameters {                        \
    REAL(name);                                    \
    int64_t allowed = readable(fd, 2);             \
    if (allowed < 0) return -1;                    \
    if (allowed < 2 && count > 1) count = 1;       \
    return real arguments;                         \
  }
VECTOR_READER(readv, (int fd, const struct iovec *into, int count), (fd, into, count))
VECTOR_READER(preadv, (int fd, const struct iovec *into, int count, off_t offset), (fd, into, count, offset))
VECTOR_READER(preadv64, (int fd, const struct iovec *into, int count, off64_t offset), (fd, into, count, offset))

#define MAPPER(name, type)                                                              \
  void *name(void *at, size_t size, int protection, int flags, int fd, type offset) {   \
    REAL(name);                                                                         \
    char *path = flags & MAP_ANONYMOUS ? NULL : of_fd(fd);                              \
    if (path) READS(MAP, path, MAP_FAILED);                                             \
    return real(at, size, protection, flags, fd, offset);                               \
  }
MAPPER(mmap, off_t)
MAPPER(mmap64, off64_t)

#define STATS(name, parameters, folder, arguments)               \
  int name parameters {                                          \
    REAL(name);                                                  \
    char full[PATH_MAX];                                         \
    if (below_root_at(folder, path, full)) READS(STAT, full, -1); \
    return real arguments;                                       \
  }
STATS(stat, (const char *path, struct stat *found), AT_FDCWD, (path, found))
STATS(stat64, (const char *path, struct stat64 *found), AT_FDCWD, (path, found))
STATS(lstat, (const char *path, struct stat *found), AT_FDCWD, (path, found))
STATS(lstat64, (const char *path, struct stat64 *found), AT_FDCWD, (path, found))
STATS(fstatat, (int folder, const char *path, struct stat *found, int flags), folder, (folder, path, found, flags))
STATS(fstatat64, (int folder, const char *path, struct stat64 *found, int flags), folder, (folder, path, found, flags))
STATS(statx, (int folder, const char *path, int flags, unsigned mask, struct statx *found), folder,
      (folder, path, flags, mask, found))
STATS(access, (const char *path, int mode), AT_FDCWD, (path, mode))

#define STATS_OPEN(name, type)                 \
  int name(int fd, type *found) {              \
    REAL(name);                                \
    char *path = of_fd(fd);                    \
    if (path) READS(STAT, path, -1);           \
    return real(fd, found);                    \
  }
STATS_OPEN(fstat, struct stat)
STATS_OPEN(fstat64, struct stat64)

ssize_t readlink(const char *path, char *target, size_t size) {
  REAL(readlink);
  char full[PATH_MAX];
  if (below_root(path, full)) READS(STAT, full, -1);
  return real(path, target, size);
}

DIR *opendir(const char *path) {
  REAL(opendir);
  char full[PATH_MAX];
  if (below_root(path, full)) READS(LIST, full, NULL);
  return real(path);
}

DIR *fdopendir(int fd) {
  REAL(fdopendir);
  char *path = of_fd(fd);
  if (path) READS(LIST, path, NULL);
  return real(fd);
}

int closedir(DIR *folder) {
  REAL(closedir);
  opened(NULL, 0, dirfd(folder)); /* its descriptor may be a pipe's next */
  return real(folder);
}

#define LISTS(name, type)                              \
  type *name(DIR *folder) {                            \
    REAL(name);                                        \
    char *path = of_fd(dirfd(folder));                 \
    if (path) READS(LIST, path, NULL);                 \
    return real(folder);                               \
  }
LISTS(readdir, struct dirent)
LISTS(readdir64, struct dirent64)

int clock_gettime(clockid_t which, struct timespec *now) {
  REAL(clock_gettime);
  int result = real(which, now);
  if (control && which == CLOCK_REALTIME && !result) {
    int64_t wrong = now->tv_sec * 1000000000LL + now->tv_nsec + control->clock_offset;
    now->tv_sec = wrong / 1000000000LL;
    now->tv_nsec = wrong % 1000000000LL;
  }
  return result;
}
