/* Texts made from the table: -h, the manual page, and the nearest name of an unknown option. */
#include <string.h>

#include "server/options_private.h"
#include "server/version.h"

/* ---- the nearest name ---- */

/* Edit distance of two short words; 2 where the first begins the other. */
static unsigned distance(const char *a, size_t a_size, const char *b, size_t b_size)
{
    unsigned row[64];
    if (a_size >= 3 && a_size < b_size && memcmp(a, b, a_size) == 0)
        return 2;
    if (a_size > 40 || b_size >= sizeof(row) / sizeof(row[0]))
        return 99;
    for (size_t j = 0; j <= b_size; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= a_size; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_size; j++) {
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
        }
    }
    return row[b_size];
}

bool options_refuse_unknown(struct parse *parse, const char *word, size_t size, bool extended)
{
    const char *nearest = "";
    unsigned best = 1000;
    for (int i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        if (row->extended != extended || row->word == NULL)
            continue;
        unsigned now = distance(word, size, row->word, strlen(row->word));
        if (now < best) {
            best = now;
            nearest = row->word;
        }
    }
    const char *dashes = extended ? "-o " : "--";
    if (best > 1 + size / 3)
        return options_refuse(parse, EXIT_WRONG, "unknown option %s%.*s (-h lists all)", dashes,
                              (int)size, word);
    return options_refuse(parse, EXIT_WRONG,
                          "unknown option %s%.*s; the nearest is %s%s (-h lists all)", dashes,
                          (int)size, word, dashes, nearest);
}

/* ---- -h ---- */

enum { HELP_WIDTH = 100, HELP_INDENT = 34, HELP_SIZE = 512 };

/* Words of `text`, from column `column` on, in lines that begin at HELP_INDENT. */
static void print_wrapped(FILE *out, size_t column, const char *text)
{
    for (size_t word = strcspn(text, " "); *text != 0;
         text += word + (text[word] == ' '), word = strcspn(text, " ")) {
        if (column > HELP_INDENT && column + 1 + word > HELP_WIDTH) {
            fprintf(out, "\n%*s", HELP_INDENT, "");
            column = HELP_INDENT;
        }
        column += (size_t)fprintf(out, "%s%.*s", column > HELP_INDENT ? " " : "", (int)word, text);
    }
}

/* "-p, --port=N", "--node=ID", "modern", "slab_automove[=N]". */
static void print_form(char form[OPTION_NAME_SIZE], const struct option_row *row)
{
    size_t used = 0;
    const char *argument = row->argument == NULL ? "" : row->argument;
    bool optional = argument[0] == '[';
    form[0] = 0;
    if (!row->extended)
        used =
            (size_t)snprintf(form, OPTION_NAME_SIZE, "%c%c%c ", row->letter ? '-' : ' ',
                             row->letter ? row->letter : ' ', row->letter && row->word ? ',' : ' ');
    if (row->word == NULL)
        snprintf(form + used - 1, OPTION_NAME_SIZE - used, "%s", argument);
    else
        snprintf(form + used, OPTION_NAME_SIZE - used, "%s%s%s%s", row->extended ? "" : "--",
                 row->word,
                 optional    ? "[="
                 : *argument ? "="
                             : "",
                 argument + optional);
}

/* "(default: ...)" or "no effect: ..." around the row's help. */
static const char *help_text(char text[HELP_SIZE], const struct option_row *row)
{
    const char *before = row->ignored ? "no effect: " : "";
    if (row->initial == NULL)
        snprintf(text, HELP_SIZE, "%s%s", before, row->help);
    else
        snprintf(text, HELP_SIZE, "%s%s (default: %s)", before, row->help, row->initial);
    return text;
}

static void print_row(FILE *out, const struct option_row *row)
{
    char form[OPTION_NAME_SIZE], help[HELP_SIZE];
    print_form(form, row);
    fprintf(out, "  %-*s", HELP_INDENT - 2, form);
    if (strlen(form) + 2 >= HELP_INDENT) /* it reaches the column of the help */
        fprintf(out, "\n%*s", HELP_INDENT, "");
    print_wrapped(out, HELP_INDENT, help_text(help, row));
    fputc('\n', out);
}

void options_print_help(FILE *out)
{
    fprintf(out, "healcached %s: a memcached that is linearizable, replicated and durable\n",
            SERVER_VERSION);
    for (int i = 0; i < OPTION_COUNT; i++) {
        if (i == 0 || option_rows[i].extended != option_rows[i - 1].extended)
            fprintf(out, i == 0 ? "Options:\n" : "Words of -o, with commas between them:\n");
        print_row(out, &option_rows[i]);
    }
}

void options_print_version(FILE *out)
{
    fprintf(out, "healcached %s\n", SERVER_VERSION);
}

void options_print_license(FILE *out)
{
    fprintf(out,
            "healcached %s. BSD 3-Clause License, Copyright (c) 2026, the healcached authors.\n"
            "You may use, change and pass on source and binaries as long as the copyright notice "
            "and the\n"
            "conditions of the file LICENSE go with them; there is no warranty of any kind.\n"
            "Linked with libevent, OpenSSL, libraft, libuv and libpmem, which have licenses of "
            "their own.\n",
            SERVER_VERSION);
}

/* ---- the manual page ---- */

/* In roff a minus has to be escaped to stay one, a backslash too, and no line may begin with a dot
 * or quote. */
static void print_roff(FILE *out, const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", out);
    for (; *text != 0; text++) {
        if (*text == '-')
            fputs("\\-", out);
        else if (*text == '\\')
            fputs("\\e", out);
        else
            fputc(*text, out);
    }
    fputc('\n', out);
}

static void print_manual_row(FILE *out, const struct option_row *row)
{
    char form[OPTION_NAME_SIZE], help[HELP_SIZE];
    print_form(form, row);
    fputs(".TP\n.B ", out);
    print_roff(out, form + strspn(form, " "));
    print_roff(out, help_text(help, row));
}

static void print_manual_rows(FILE *out, bool extended)
{
    for (int i = 0; i < OPTION_COUNT; i++) {
        if (option_rows[i].extended == extended)
            print_manual_row(out, &option_rows[i]);
    }
}

static const char manual_head[] =
    ".\\\" Written by healcached --manual from server/option.def: change that, then make manual.\n"
    ".TH HEALCACHED 1 \"\" \"healcached\" \"User Commands\"\n"
    ".SH NAME\n"
    "healcached \\- a memcached that is linearizable, replicated and durable\n"
    ".SH SYNOPSIS\n"
    ".B healcached\n"
    "[\\fIoption\\fR]...\n"
    ".SH DESCRIPTION\n"
    "Clients of memcached connect to any node of a group of 1, 3, 5 or 7 and find the same data. A "
    "write that was\n"
    "answered is at all of them, and with \\-\\-data on all of their media.\n"
    "Without options it is a single node in memory, as memcached is.\n"
    "Options of memcached have the meaning they have there; those that have none here are taken, "
    "and the log says so\n"
    "once.\n"
    ".SH OPTIONS\n";

static const char manual_middle[] = ".SH EXTENDED OPTIONS\n"
                                    "Words of the list behind \\-o, with commas between them.\n";

static const char manual_tail[] =
    ".SH SIGNALS\n"
    ".TP\n.B SIGTERM, SIGINT, SIGUSR1\n"
    "Stop, with exit status 0. What was acknowledged stays as the options say.\n"
    ".TP\n.B SIGHUP\n"
    "Read the file of \\-Y or MEMCACHED_SASL_PWDB and the certificates of \\-Z again.\n"
    ".SH ENVIRONMENT\n"
    ".TP\n.B SASL_CONF_PATH\n"
    "With \\-S: the directory of memcached.conf, the configuration of libsasl2.\n"
    ".TP\n.B MEMCACHED_PORT_FILENAME\n"
    "A file that gets the ports on which clients are served, for \\-p \\-1.\n"
    ".TP\n.B MEMCACHED_SASL_PWDB\n"
    "With \\-S: a file like that of \\-Y; its users may use the mechanism PLAIN.\n"
    ".SH EXIT STATUS\n"
    ".TP\n.B 0\nstopped as told, or \\-h, \\-V, \\-i, \\-\\-manual were answered\n"
    ".TP\n.B 1\nunknown option, or a wrong number where memcached says 1\n"
    ".TP\n.B 64\nwrong use\n"
    ".TP\n.B 67\nno such user\n"
    ".TP\n.B 71\ncannot listen, or a failure of the system while running\n"
    ".TP\n.B 74\nthe medium of the log failed, or cannot be read; doc/operations.md\n"
    ".TP\n.B 78\nthe data directory belongs to another node, cannot be used, or is damaged "
    "(\\-\\-damaged); or \\-\\-net=rdma without a device\n"
    ".SH SEE ALSO\n"
    "memcached(1), memcstat(1), memcdump(1)\n";

void options_print_manual(FILE *out)
{
    fputs(manual_head, out);
    print_manual_rows(out, false);
    fputs(manual_middle, out);
    print_manual_rows(out, true);
    fputs(manual_tail, out);
}
