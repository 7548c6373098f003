/*
 * What the examples share: whole files of bounded size, the time, and messages.
 */

#ifndef INPUT_H
#define INPUT_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <keybound.h>


#define ALLOWED      0
#define DENIED       1
#define FAILED       2

#define CONFIG_SIZE  (512 * 1024)
#define TOKEN_SIZE   (16 * 1024)
#define CERT_SIZE    (32 * 1024)


/* Reads a whole file; fails if it is larger than the buffer. */

static inline int
read_file(const char *path, uint8_t *buf, size_t size, size_t *len)
{
    int    ok;
    FILE  *file;

    file = fopen(path, "rb");
    if (file == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }

    *len = fread(buf, 1, size, file);

    ok = 1;
    if (ferror(file)) {
        fprintf(stderr, "%s: cannot be read\n", path);
        ok = 0;

    } else if (*len == size && fgetc(file) != EOF) {
        fprintf(stderr, "%s: larger than %lu bytes\n", path, (unsigned long) size);
        ok = 0;
    }

    fclose(file);

    return ok ? 0 : -1;
}


/* Reads a file of one line, without its line end. */

static inline int
read_line(const char *path, uint8_t *buf, size_t size, size_t *len)
{
    if (read_file(path, buf, size, len) != 0) {
        return -1;
    }

    while (*len > 0 && (buf[*len - 1] == '\n' || buf[*len - 1] == '\r')) {
        (*len)--;
    }

    return 0;
}


/* Reads a certificate and sees its form; "-": there is none. */

static inline int
read_cert(const char *path, uint8_t *buf, size_t size, kb_str *cert, uint32_t *form)
{
    cert->ptr = NULL;
    cert->len = 0;
    *form = KB_CERT_NONE;

    if (strcmp(path, "-") == 0) {
        return 0;
    }

    if (read_file(path, buf, size, &cert->len) != 0) {
        return -1;
    }

    cert->ptr = buf;
    *form = (cert->len >= 5 && memcmp(buf, "-----", 5) == 0) ? KB_CERT_PEM : KB_CERT_DER;

    return 0;
}


/* Unix time from an argument, or now if there is none. The library reads no clock. */

static inline int
read_time(const char *text, int64_t *now_s)
{
    char  *end;

    if (text == NULL) {
        *now_s = (int64_t) time(NULL);
        return 0;
    }

    errno = 0;
    *now_s = strtoll(text, &end, 10);

    if (errno != 0 || end == text || *end != '\0') {
        fprintf(stderr, "%s: not a Unix time\n", text);
        return -1;
    }

    return 0;
}


/* The ABI is asked for before anything else: another one may have other structs. */

static inline int
check_abi(void)
{
    const char  *version;

    if (kb_abi_version() == KB_ABI_VERSION) {
        return 0;
    }

    version = kb_version();
    fprintf(stderr, "libkeybound %s has another ABI than keybound.h\n", version ? version : "");

    return -1;
}


/* Who logs users in hands over what HTTP says of a request (kb_http), and has a store. These examples do neither. */

static inline int
check_needs(const kb_engine *engine)
{
    if ((kb_engine_needs(engine) & KB_NEEDS_HTTP) == 0) {
        return 0;
    }

    fprintf(stderr, "sessions, logins and grants need more of a host than this one has\n");

    return -1;
}


/* The message has at most the size of its buffer, whatever the whole length is. */

static inline void
print_error(const char *what, int32_t status, const uint8_t *message, size_t len, size_t size)
{
    const char  *text;

    text = kb_strerror(status);
    fprintf(stderr, "%s: %s", what, text ? text : "internal error");

    if (len > 0) {
        fprintf(stderr, ": %.*s", (int) (len < size ? len : size), (const char *) message);
    }

    fputc('\n', stderr);
}


static inline void
print_reason(uint32_t reason)
{
    const char  *code;

    code = kb_reason_code(reason);
    printf("%s\n", code ? code : "internal_error");
}


/* Strings of the library have a length, and no NUL behind them. */

static inline void
print_str(const char *before, kb_str s, const char *after)
{
    fputs(before, stdout);

    if (s.ptr != NULL) {
        fwrite(s.ptr, 1, s.len, stdout);
    }

    fputs(after, stdout);
}


#endif /* INPUT_H */
