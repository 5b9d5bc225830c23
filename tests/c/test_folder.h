/* test_folder.h - a directory of its own for each test that writes files. */
#ifndef TEST_FOLDER_H
#define TEST_FOLDER_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef _WIN32
#include <direct.h>
#include <io.h>
#endif

enum { PATH_BYTES = 512 };

static char folder[PATH_BYTES / 2];

static inline int make_folder(void **state) {
    (void)state;
#ifdef _WIN32
    const char *where = getenv("TEMP");
    snprintf(folder, sizeof folder, "%s\\ruvector-test-XXXXXX", where ? where : ".");
    return _mktemp(folder) ? _mkdir(folder) : -1;
#else
    const char *where = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/ruvector-test-XXXXXX", where ? where : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
#endif
}

static inline int remove_folder(void **state) {
    (void)state;
#ifdef _WIN32
    static const char *const format = "rmdir /s /q \"%s\"";
#else
    static const char *const format = "rm -rf '%s'";
#endif
    char command[PATH_BYTES];
    snprintf(command, sizeof command, format, folder);
    return system(command);
}

static inline const char *in_folder(char path[PATH_BYTES], const char *name) {
#ifdef _WIN32
    snprintf(path, PATH_BYTES, "%s\\%s", folder, name);
#else
    snprintf(path, PATH_BYTES, "%s/%s", folder, name);
#endif
    return path;
}

/* Number of entries; those that killed or failed writers leave, too. */
static inline unsigned count_entries(const char *directory) {
    unsigned n = 0;
    DIR *d = opendir(directory);
    if (!d) return 0;
    for (struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return n;
}

static inline int write_file(const char *path, const void *data, size_t size) {
    FILE *f = fopen(path, "wb");
    if (!f) return -1;
    size_t written = size ? fwrite(data, 1, size, f) : 0;
    return fclose(f) == 0 && written == size ? 0 : -1;
}

/* Up to `capacity` bytes; how many there are, or -1. */
static inline long read_file(const char *path, void *data, size_t capacity) {
    FILE *f = fopen(path, "rb");
    if (!f) return -1;
    size_t got = fread(data, 1, capacity, f);
    fclose(f);
    return (long)got;
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

#endif
