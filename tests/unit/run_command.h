/* run_command: factmesh in a process of its own, forked: what it prints, what it says, how it ends. main and all commands are linked in
 * (see the Makefile), so that a run costs a fork, and a test may call what lies below them as well.
 *
 * Thread: one, in a program that has no others. */

#ifndef FM_TESTS_RUN_COMMAND_H
#define FM_TESTS_RUN_COMMAND_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

int factmesh_main (int argc, char **argv);
#define main factmesh_main
#include "../../nodes/cli/main.c"
#undef main

enum { RUN_WORDS_MAX = 1100, RUN_TEXT_MAX = 1 << 17 };

struct run {
    int status;                         /* as of a shell: 128 and the signal's number when one ended it */
    char out[RUN_TEXT_MAX], err[RUN_TEXT_MAX];
};

/* Done in the new process, before the command: to take something from it. */
typedef void run_before_fn (void);

static inline void run_read (int fd, char text[RUN_TEXT_MAX])
{
    const ssize_t n = pread (fd, text, RUN_TEXT_MAX - 1, 0);
    assert_true (n >= 0);
    text[n] = 0;
    (void) close (fd);
}

/* args: ends with NULL, without the program's name; at most RUN_WORDS_MAX. */
static inline void run_args (const char *const *args, run_before_fn *before, struct run *ret_run)
{
    static char program[] = "factmesh";
    char *argv[RUN_WORDS_MAX + 2] = { program };
    int argc = 1, status;
    for (; args[argc - 1]; argc++) {
        assert_true (argc <= RUN_WORDS_MAX);
        argv[argc] = strdup (args[argc - 1]);
    }
    const int out = memfd_create ("out", MFD_CLOEXEC), err = memfd_create ("err", MFD_CLOEXEC);
    assert_true (out >= 0 && err >= 0);
    (void) fflush (NULL);
    const pid_t pid = fork ();
    assert_true (pid >= 0);
    if (pid == 0) {
        if (dup2 (out, STDOUT_FILENO) < 0 || dup2 (err, STDERR_FILENO) < 0)
            _exit (99);
        if (before)
            before ();
        optind = 0;                     /* getopt begins anew */
        status = factmesh_main (argc, argv);
        (void) fflush (NULL);
        _exit (status);
    }
    assert_int_equal (waitpid (pid, &status, 0), pid);
    ret_run->status = WIFEXITED (status) ? WEXITSTATUS (status) : 128 + WTERMSIG (status);
    run_read (out, ret_run->out);
    run_read (err, ret_run->err);
    while (argc > 1)
        free (argv[--argc]);
}

/* The words of a line; '' is an empty one. NAME=VALUE in front is put into the environment. */
static inline void run_line (const char *line, struct run *ret_run)
{
    const char *args[RUN_WORDS_MAX + 1];
    size_t count = 0;
    char *const copy = strdup (line), *rest = copy, *variable = NULL;
    assert_non_null (copy);
    for (char *word; (word = strsep (&rest, " "));) {
        if (!count && !variable && strchr (word, '=') && *word != '-') {
            variable = word;
            continue;
        }
        assert_true (count < RUN_WORDS_MAX);
        args[count++] = strcmp (word, "''") == 0 ? "" : word;
    }
    args[count] = NULL;
    char *const value = variable ? strchr (variable, '=') : NULL;
    if (value) {
        *value = 0;
        assert_int_equal (setenv (variable, value + 1, 1), 0);
    }
    run_args (args, NULL, ret_run);
    if (value)
        assert_int_equal (unsetenv (variable), 0);
    free (copy);
}

#endif
