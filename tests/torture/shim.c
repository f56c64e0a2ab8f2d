/*
 * Intercepts the system calls of a process on the files of one folder. It counts changes on disk
 * ("points"), and at a chosen point kills the process, fails, or tears a write. Optionally it
 * records all changes in order, to replay a power loss.
 *
 * Loaded with LD_PRELOAD. POLOS_SHIM_FOLDER names the folder, POLOS_SHIM_CONTROL a file that the
 * harness maps too (struct control), and POLOS_SHIM_LOG, if set, the record.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* Matches `Control` in shim.py. Points are counted from 1; a range is [from, until), 0 for none. */
struct control {
    int64_t points; /* of all kinds, so far */
    int64_t kill_at;
    int64_t is_torn; /* the first half of the write at that point is done */
    int64_t syncs;
    int64_t sync_from, sync_until, sync_errno, is_sync_done;
    int64_t writes;
    int64_t write_from, write_until, write_errno;
    int64_t failed; /* how many calls were made to fail */
};

enum { WRITE = 1, SYNC = 2, TRUNCATE = 3, UNLINK = 4, CREATE = 5 };

static struct control *control;
static char folder[4096];
static int record = -1;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static ssize_t (*real_write)(int, const void *, size_t);

__attribute__((constructor)) static void begin(void) {
    const char *place = getenv("POLOS_SHIM_FOLDER");
    const char *shared = getenv("POLOS_SHIM_CONTROL");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_write = dlsym(RTLD_NEXT, "write");
    if (place == NULL || shared == NULL || strlen(place) >= sizeof folder) return;
    int file = open(shared, O_RDWR | O_CLOEXEC);
    void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (map == MAP_FAILED) abort();
    const char *log = getenv("POLOS_SHIM_LOG");
    if (log != NULL) record = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    strcpy(folder, place);
    control = map;
}

/* The name below the folder, empty for the folder itself, or NULL outside of it. */
static const char *below(const char *path) {
    size_t length = strlen(folder);
    if (strncmp(path, folder, length) != 0) return NULL;
    if (path[length] == '\0') return "";
    if (path[length] != '/') return NULL;
    /* The index of the log is in memory, and rebuilt after a crash. */
    if (strstr(path, "-shm") != NULL) return NULL;
    return path + length + 1;
}

/* Files that the process writes for the harness are recorded, but are not points. */
static int is_record(const char *name) { return *name != '\0' && strncmp(name, "polos.db", 8) != 0; }

static const char *name_of(int file, char *room) {
    char link[64];
    if (control == NULL) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, room, 4095);
    if (length <= 0) return NULL;
    room[length] = '\0';
    return below(room);
}

static void put(const void *data, size_t length) {
    const char *rest = data;
    while (length > 0) {
        ssize_t done = real_write(record, rest, length);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) abort();
        rest += done;
        length -= (size_t)done;
    }
}

static void note(int64_t kind, const char *name, int64_t offset, const void *data, int64_t length) {
    if (record < 0) return;
    int64_t head[4] = {kind, (int64_t)strlen(name), offset, length};
    put(head, sizeof head);
    put(name, strlen(name));
    if (data != NULL) put(data, (size_t)length);
}

/* Counts a point; returns whether the process is to end here. */
static int is_last(void) { return ++control->points == control->kill_at; }

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static int is_in(int64_t number, int64_t from, int64_t until) {
    return from > 0 && number >= from && number < until;
}

static ssize_t change(int file, const char *name, const void *data, size_t size, off64_t offset, int is_at) {
    pthread_mutex_lock(&turn);
    int is_point = !is_record(name);
    int is_end = is_point && is_last();
    if (is_end && !control->is_torn) die();
    if (is_end) size = size / 2;
    if (is_point && is_in(++control->writes, control->write_from, control->write_until)) {
        control->failed++;
        errno = (int)control->write_errno;
        pthread_mutex_unlock(&turn);
        return -1;
    }
    off64_t where = offset;
    if (!is_at) where = lseek64(file, 0, fcntl(file, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    ssize_t done = is_at ? real_pwrite(file, data, size, offset) : real_write(file, data, size);
    int error = errno;
    if (is_end) die();
    if (done > 0) note(WRITE, name, where, data, done);
    pthread_mutex_unlock(&turn);
    errno = error;
    return done;
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset) {
    char room[4096];
    const char *name = name_of(file, room);
    if (name == NULL) return real_pwrite(file, data, size, offset);
    return change(file, name, data, size, offset, 1);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t offset) {
    return pwrite64(file, data, size, offset);
}

ssize_t write(int file, const void *data, size_t size) {
    char room[4096];
    const char *name = file > 2 ? name_of(file, room) : NULL;
    if (name == NULL) return real_write(file, data, size);
    return change(file, name, data, size, 0, 0);
}

static int sync_file(int file, long call) {
    char room[4096];
    const char *name = name_of(file, room);
    if (name == NULL) return (int)syscall(call, file);
    pthread_mutex_lock(&turn);
    int is_point = !is_record(name);
    if (is_point && is_last()) die();
    int fails = is_point && is_in(++control->syncs, control->sync_from, control->sync_until);
    int done = 0;
    if (!fails || control->is_sync_done) {
        done = (int)syscall(call, file);
        if (done == 0) note(SYNC, name, 0, NULL, 0);
    }
    int error = errno;
    if (fails) {
        control->failed++;
        error = (int)control->sync_errno;
        done = -1;
    }
    pthread_mutex_unlock(&turn);
    errno = error;
    return done;
}

int fdatasync(int file) { return sync_file(file, SYS_fdatasync); }

int fsync(int file) { return sync_file(file, SYS_fsync); }

int ftruncate64(int file, off64_t length) {
    char room[4096];
    const char *name = name_of(file, room);
    if (name == NULL) return (int)syscall(SYS_ftruncate, file, length);
    pthread_mutex_lock(&turn);
    if (is_last()) die();
    int done = (int)syscall(SYS_ftruncate, file, length);
    int error = errno;
    if (done == 0) note(TRUNCATE, name, length, NULL, 0);
    pthread_mutex_unlock(&turn);
    errno = error;
    return done;
}

int ftruncate(int file, off_t length) { return ftruncate64(file, length); }

int unlink(const char *path) {
    const char *name = control == NULL ? NULL : below(path);
    if (name == NULL) return (int)syscall(SYS_unlink, path);
    pthread_mutex_lock(&turn);
    if (is_last()) die();
    int done = (int)syscall(SYS_unlink, path);
    int error = errno;
    if (done == 0) note(UNLINK, name, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    errno = error;
    return done;
}

/* Creating a file is a point too. */
static int open_file(const char *path, int flags, mode_t mode) {
    const char *name = control == NULL || !(flags & O_CREAT) ? NULL : below(path);
    if (name == NULL || is_record(name) || access(path, F_OK) == 0) {
        return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    }
    pthread_mutex_lock(&turn);
    if (is_last()) die();
    int file = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    int error = errno;
    if (file >= 0) note(CREATE, name, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    errno = error;
    return file;
}

static mode_t mode_of(int flags, va_list rest) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return open_file(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return open_file(path, flags, mode);
}
