/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/ctl.h - interface between godwitctl's files.
 *
 * A function that returns an exit code has reported its error by then; a command returns what main() exits with. */
#ifndef GODWIT_TOOLS_CTL_H
#define GODWIT_TOOLS_CTL_H

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NAME_MAX_LEN 64
#define HOSTS_MAX    64
#define FP_LEN       32
#define FP_TEXT_LEN  (2 * FP_LEN + 1)
#define DEFAULT_PORT 7443

/* Stable, since scripts rely on them; documented in docs/api.md and by --help. */
enum exit_code {
    EXIT_GOOD = 0,
    EXIT_REFUSED = 1, /* the host refused; its message says why */
    EXIT_USAGE = 2,
    EXIT_CONFIG = 3,        /* the configuration file, the key or the certificate */
    EXIT_UNREACHABLE = 4,   /* no answer */
    EXIT_UNTRUSTED = 5,     /* host and client do not trust each other */
    EXIT_MOVE_FAILED = 6,   /* the guest still runs where it was */
    EXIT_IN_DOUBT = 7,      /* the move was committed, and its outcome is unknown yet */
    EXIT_INTERRUPTED = 130, /* Ctrl-C while watching; what was watched goes on */
};

struct host {
    char name[NAME_MAX_LEN], address[256];
    unsigned port;
    unsigned char fingerprint[FP_LEN];
    void *curl; /* client.c's connection, kept for the next request */
};
struct settings {
    char path[PATH_MAX]; /* the configuration file */
    char name[NAME_MAX_LEN], key[PATH_MAX], cert[PATH_MAX];
    struct host hosts[HOSTS_MAX];
    unsigned n_hosts;
};
extern struct settings settings;

/* Options of the command line. */
struct options {
    bool base, raw, again;
    bool json, detach, yes, force, plain, lz4, live, paused, quick, cold, dry_run, verify, force_here, force_there,
        keep, overwrite, print_only, quiet, status, cancel, stop_crashed, replace, follow, sure, show_config, spoof,
        with_disks, with_base;
    const char *host, *to, *svg, *fingerprint, *send, *limit, *downtime, *policy, *network, *timeout, *since, *role,
        *name, *from;
    char places[512]; /* of --disk, with commas between them */
};
extern struct options options;

/** While it is true, errors are not printed. */
extern bool errors_muted;
/** "godwitctl: ..." to standard error; with --json also {"error": {...}} to standard output.  Returns code. */
enum exit_code fail(enum exit_code code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- config.c ---- */
/** Read the file, which need not exist.  Messages name file and line. */
enum exit_code config_load(const char *path);
enum exit_code config_save(void);
struct host *config_host(const char *name); /* NULL: no such */
bool fingerprint_parse(const char *text, unsigned char out[FP_LEN]);
void fingerprint_text(const unsigned char fp[FP_LEN], char out[FP_TEXT_LEN]);

/* ---- identity.c ---- */
/** Create key and certificate at the paths of the settings, unless both exist. */
enum exit_code identity_make(bool *made);
enum exit_code identity_fingerprint(unsigned char out[FP_LEN]);

/* ---- client.c ---- */
/* Escaped, but for ask_console() and ask_bytes(): nothing in it acts on a terminal. */
struct answer {
    long status;
    json_t *json; /* owned; NULL when the answer is no JSON */
    char *text;   /* owned: the body, terminated */
    size_t len;
    uint64_t console_next, console_missed, job;
    char console_run[33], vm_state[16];
    char config_source[16], config_later[4]; /* of a definition; "yes" */
};
void answer_free(struct answer *a);
/** Send a request to h; method is "GET", "POST", "PUT" or "DELETE".  body: JSON (stolen) or NULL; raw: bytes instead.
 *  An error, the host's included, is reported and its code returned; *out is empty then. */
enum exit_code ask(struct host *h, const char *method, const char *path, json_t *body, struct answer *out);
enum exit_code ask_raw(struct host *h, const char *method, const char *path, const void *raw, size_t len,
                       struct answer *out);
/** As ask_raw(), for a guest's console: an answer in bytes is for the terminal as it is.  A guest that is not there or
 *  does not take the request (404, 409) is an answer and no error: see out->status. */
enum exit_code ask_console(struct host *h, const char *method, const char *path, const void *raw, size_t len,
                           struct answer *out);
/** As ask_raw(), without a body; what the host answers is not escaped. */
enum exit_code ask_bytes(struct host *h, const char *method, const char *path, struct answer *out);
/** The file that the next request sends, which a host's list of its mistakes names; NULL: none. */
extern const char *mistakes_file;
/** Report a refusal of h: "godwitctl: HOST: MESSAGE (CODE)". */
enum exit_code refused(const struct host *h, const char *code, const char *message, long status);
/** The code of the last refusal, "HV_E_..."; "" if there was none. */
const char *refusal_code(void);
/** Connect and return the fingerprint of the host's certificate, trusted or not.  EXIT_UNTRUSTED: the host does not
 *  accept this client. */
enum exit_code ask_fingerprint(struct host *h, unsigned char out[FP_LEN]);
/* A request whose body, or whose answer, is a stream of bytes. */
struct transfer {
    uint64_t len;      /* of the body to be sent; 0: none */
    const char *range; /* "Content-Range: ..." or "Range: ..."; NULL: none */
    /** Put the next bytes of the body into p; 0: they cannot be read, and the request ends. */
    size_t (*give)(struct transfer *t, char *p, size_t cap);
    /** Take bytes of a good answer; false: they cannot be kept, and the request ends. */
    bool (*take)(struct transfer *t, const char *p, size_t n); /* NULL: the answer is text or JSON */
    uint64_t answer_len; /* of what comes, from the first take() on; 0: not known */
    /** Called often; false: end the request. */
    bool (*tick)(struct transfer *t);
    bool broken; /* the connection broke in the middle: another try may go on; nothing was reported */
};
/** Ask with method "PUT" or "GET"; errors are reported as by ask(), except for t->broken. */
enum exit_code ask_transfer(struct host *h, const char *method, const char *path, struct transfer *t,
                            struct answer *out);
void client_close(struct host *h); /* end the connection; the next request makes a new one */
void client_cleanup(void);

/* Fields of an object; "" and 0 when they are missing. */
const char *get_str(const json_t *o, const char *key);
uint64_t get_num(const json_t *o, const char *key);
bool get_bool(const json_t *o, const char *key);
void print_json(json_t *o); /* to standard output; o is stolen */
/** Text of a host or guest as a JSON string.  If it is not valid UTF-8, every byte beyond ASCII becomes "?". */
json_t *json_text(const char *text, size_t len);
/** Last, with --json: print the last error if nothing else was printed. */
void print_json_error(void);

/** What a host has answered.  e: an error, which has been reported; a is empty then.  Returns e, or an error of its
 *  own. */
typedef enum exit_code each_answer_fn(struct host *h, enum exit_code e, struct answer *a, void *ctx);
/** GET path from the host of --host, or from all hosts at the same time; then call each for every host, in the order of
 *  the configuration, also after an error.  Returns the first error. */
enum exit_code each_host(const char *path, each_answer_fn *each, void *ctx);
/** The same for every object of the array under key in the answers; each gets a field "host". */
enum exit_code each_item(const char *path, const char *key,
                         enum exit_code (*each)(struct host *h, json_t *item, void *ctx), void *ctx);
/** With --json print {key: all, "errors": [...]}, an error for each host that is missing; nothing if no host could be
 *  asked.  all is stolen. */
void print_list(const char *key, json_t *all);
/** Is there a host to ask, and does --host name one? */
enum exit_code hosts_check(void);
/** Note the last error as one of h, for print_list(). */
void host_error_note(const struct host *h);
/** The host of --host, or the only one. */
enum exit_code one_host(struct host **out);

/* ---- commands: argv has the arguments, without the command's words and options ---- */
enum exit_code cmd_key(int argc, char **argv);
enum exit_code cmd_host_list(int argc, char **argv);
enum exit_code cmd_host_show(int argc, char **argv);
enum exit_code cmd_host_add(int argc, char **argv);
enum exit_code cmd_host_rename(int argc, char **argv);
enum exit_code cmd_host_remove(int argc, char **argv);
enum exit_code cmd_host_log(int argc, char **argv);
enum exit_code cmd_host_evacuate(int argc, char **argv);
enum exit_code cmd_host_poweroff(int argc, char **argv);
enum exit_code cmd_host_reboot(int argc, char **argv);
enum exit_code cmd_vm_list(int argc, char **argv);
enum exit_code cmd_vm_show(int argc, char **argv);
enum exit_code cmd_vm_start(int argc, char **argv);
enum exit_code cmd_vm_stop(int argc, char **argv);
enum exit_code cmd_vm_shutdown(int argc, char **argv); /* power.c */
enum exit_code cmd_vm_reset(int argc, char **argv);
enum exit_code cmd_vm_save(int argc, char **argv);
enum exit_code cmd_vm_save_cancel(int argc, char **argv);
enum exit_code cmd_vm_restore(int argc, char **argv);
enum exit_code cmd_checkpoint_create(int argc, char **argv);
enum exit_code cmd_checkpoint_list(int argc, char **argv);
enum exit_code cmd_checkpoint_revert(int argc, char **argv);
enum exit_code cmd_checkpoint_delete(int argc, char **argv);
enum exit_code cmd_vm_nmi(int argc, char **argv);
enum exit_code cmd_vm_move_disk(int argc, char **argv);
enum exit_code cmd_vm_set(int argc, char **argv);
enum exit_code cmd_vm_pause(int argc, char **argv);
enum exit_code cmd_vm_resume(int argc, char **argv);
enum exit_code cmd_vm_inspect(int argc, char **argv);
enum exit_code cmd_vm_console(int argc, char **argv);
enum exit_code cmd_vm_define(int argc, char **argv); /* define.c */
enum exit_code cmd_vm_edit(int argc, char **argv);
enum exit_code cmd_vm_undefine(int argc, char **argv);
enum exit_code cmd_vm_disk_attach(int argc, char **argv);
enum exit_code cmd_vm_disk_detach(int argc, char **argv);
enum exit_code cmd_vm_nic_attach(int argc, char **argv);
enum exit_code cmd_vm_nic_detach(int argc, char **argv);
enum exit_code cmd_store_adopt(int argc, char **argv);
enum exit_code vm_show_config(const char *name); /* vm show --config */
enum exit_code cmd_vm_migrate(int argc, char **argv);
enum exit_code cmd_migration_list(int argc, char **argv);
enum exit_code cmd_migration_show(int argc, char **argv);
enum exit_code cmd_migration_watch(int argc, char **argv);
enum exit_code cmd_migration_cancel(int argc, char **argv);
enum exit_code cmd_migration_set(int argc, char **argv);
enum exit_code cmd_volume_import(int argc, char **argv);
enum exit_code cmd_volume_export(int argc, char **argv);
enum exit_code cmd_file_put(int argc, char **argv);
enum exit_code cmd_file_list(int argc, char **argv);
enum exit_code cmd_file_delete(int argc, char **argv);
enum exit_code cmd_migration_resolve(int argc, char **argv);
enum exit_code cmd_validate(int argc, char **argv);
enum exit_code cmd_events(int argc, char **argv);
enum exit_code cmd_host_set(int argc, char **argv); /* trust.c */
enum exit_code cmd_peer_list(int argc, char **argv);
enum exit_code cmd_peer_add(int argc, char **argv);
enum exit_code cmd_peer_remove(int argc, char **argv);
enum exit_code cmd_client_list(int argc, char **argv);
enum exit_code cmd_client_add(int argc, char **argv);
enum exit_code cmd_client_remove(int argc, char **argv);
enum exit_code cmd_disk_list(int argc, char **argv);
enum exit_code cmd_store_list(int argc, char **argv);
enum exit_code cmd_store_create(int argc, char **argv);
enum exit_code cmd_volume_list(int argc, char **argv);
enum exit_code cmd_volume_create(int argc, char **argv);
enum exit_code cmd_volume_clone(int argc, char **argv);
enum exit_code cmd_volume_snapshot(int argc, char **argv);
enum exit_code cmd_volume_revert(int argc, char **argv);
enum exit_code cmd_job_list(int argc, char **argv);
enum exit_code cmd_job_watch(int argc, char **argv);
enum exit_code cmd_volume_resize(int argc, char **argv);
enum exit_code cmd_volume_rename(int argc, char **argv);
enum exit_code cmd_volume_delete(int argc, char **argv);

/* ---- text.c ---- */
/** A copy of text, which the caller frees, with each control character, each character that reorders or hides text, and
 *  each byte that is no UTF-8 as "\xNN", "\uNNNN" or "\UNNNNNN".  lines: line ends and tabs stay. */
char *text_escape(const char *text, size_t len, bool lines);
/** The same in place, for all keys and strings in o. */
void json_escape(json_t *o);
/** Append a row to a table, which is a JSON array: cells separated by tabs. */
void table_row(json_t *table, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** Print a table, two blanks between columns as wide as their widest cells; table is stolen.  align: 'l' or 'r' for
 *  each column, at most 12. */
void table_print(json_t *table, const char *align);
/** A time span with its largest unit, "12 s", "3 min", "5 h", "9 d"; a point in time by this machine's clock, with its
 *  date unless that is today.  Both return out. */
const char *age_text(char out[24], uint64_t us);
const char *time_text(char out[24], uint64_t age_us);

/** "64K", "256M", "2G", "2GiB" or "1T" in bytes; up to 2^23 of a unit.  False: text is no such size. */
bool size_parse(const char *text, uint64_t *bytes);

/* ---- image.c: disk images and other files on this machine ---- */
struct image {
    int fd;
    uint64_t bytes;
    char sha256[FP_TEXT_LEN];
    char temporary[PATH_MAX]; /* a raw copy, removed at the end; "": none */
    bool failed;              /* a read did, with this errno */
    int error;
};
/** Open a disk image; another format than raw is converted.  --raw: as it is, whatever it is. */
enum exit_code image_open(const char *path, struct image *out);
/** Open any file. */
enum exit_code file_open(const char *path, struct image *out);
void image_close(struct image *i);
/** Read up to cap bytes at `at`; 0: see i->failed. */
size_t image_read(struct image *i, uint64_t at, char *p, size_t cap);
/** How many bytes from `at` on are zeroes, or data before the next zeroes.  At least 1. */
uint64_t image_run(struct image *i, uint64_t at, bool *zero);

/* ---- progress.c: progress on standard error, between progress_begin() and progress_end() ---- */
#define PROGRESS_MAX  200       /* columns */
#define ETA_SMOOTH_US 3000000.0 /* a new estimate counts in full after this time */
struct eta {
    double end_us; /* estimated end; 0: not known yet */
    uint64_t at_us;
};
/** From here on Ctrl-C and a resized terminal end progress_pause(), no more. */
void progress_begin(void);
void progress_end(void);
bool progress_interrupted(void);
void progress_pause(unsigned ms);
/** Columns for one line of progress. */
unsigned progress_width(void);
unsigned text_columns(const char *text); /* of UTF-8, each character one column */
/** Show one line: over the last one, cut to the width; without a terminal a line of its own every few seconds. */
void progress_show(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/** Show "HEAD [==>  ] FIGURES" likewise.  figures writes what follows the bar; with a higher `less`, up to
 *  PROGRESS_LESS, it leaves out more.  head is cut if even the least does not fit. */
#define PROGRESS_LESS 3u
void progress_line(const char *head, uint64_t percent,
                   void (*figures)(char *out, size_t len, const void *ctx, unsigned less), const void *ctx);
/** Smooth an estimate.  left_us: remaining time as estimated now, 0: not known.  Returns what to show; 0: not known. */
uint64_t eta_smooth(struct eta *eta, uint64_t now_us, uint64_t left_us);

/* ---- shared by commands ---- */
/** Find a guest: the host where it is running (or paused, ...), else the one where it is stopped.  *vm: its object from
 *  the list (owned). */
enum exit_code find_vm(const char *name, struct host **host, json_t **vm);
/** The same; that there is none is no error: *host is NULL then. */
enum exit_code search_vm(const char *name, struct host **host, json_t **vm);
/** POST /v1/vms/NAME/WHAT to the guest's host, and print its message.  body: stolen, or NULL. */
enum exit_code vm_post(const char *name, const char *what, json_t *body);
/** "HOST: MESSAGE", or as JSON. */
void print_message(const struct host *h, const char *message);
/** The seconds of --timeout, or otherwise. */
enum exit_code timeout_parse(unsigned *seconds, unsigned otherwise);
/** Follow a move to its end with a progress bar; print the outcome. */
enum exit_code watch_move(struct host *h, uint64_t id);
#define VOLUME_PATH_MAX 256
/** The volume [STORE/]NAME: its host is that of --host, or the only one; path: "/v1/stores/STORE/volumes"; name points
 *  into text.  STORE may be left out if the host has one store. */
enum exit_code volume_path(const char *text, struct host **h, char path[VOLUME_PATH_MAX], const char **name);
/** Ask the question, unless --yes answers it.  True: the next line of standard input is "yes" or "y", in either
 *  case. */
bool confirmed(const char *question, ...) __attribute__((format(printf, 1, 2)));
/** Draw a move (the JSON of /v1/migrations/ID) into an SVG file. */
enum exit_code picture_write(const char *path, const json_t *job);
/** The kind of a move in words, from its "transfer_type" and "disk_transfer"; returns out. */
const char *transfer_type(char *out, size_t len, const json_t *o);
/** Request of a move from the options; the host checks their ranges.  NULL: an option is wrong, *why says how. */
json_t *move_request(const char *vm, const char *to, const char **why);
/** Where could the guest move, of --to, as the options say?  Prints all reasons. */
enum exit_code validate_move(struct host *h, const char *vm);
/** Duration, blackout, bytes and rounds of a move in words; returns out. */
const char *move_summary(char *out, size_t len, const json_t *job);
/** n / unit with so many decimals, rounded half up; returns out.  All figures with decimals come from here. */
const char *decimal(char out[24], uint64_t n, uint64_t unit, unsigned digits);
/** Follow the job that h has answered with in a, which is freed; print its outcome. */
enum exit_code watch_job(struct host *h, struct answer *a);
/** Wait for a job of the host, with progress between progress_begin() and _end().  message: its outcome. */
enum exit_code job_ask(struct host *h, const char *method, const char *path, json_t *body);
enum exit_code job_follow(struct host *h, uint64_t id, char *message, size_t len);
/** The command that ends the job which is followed from now on, for those who press Ctrl-C. */
void job_cancelled_by(const char *command, ...) __attribute__((format(printf, 1, 2)));

#endif
