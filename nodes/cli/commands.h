/* commands: the subcommands. Each takes argv from its own name on, and returns the exit status (enum cli_exit). */

#ifndef FM_CLI_COMMANDS_H
#define FM_CLI_COMMANDS_H

int command_journal (int argc, char **argv);
int command_pub (int argc, char **argv);
int command_sub (int argc, char **argv);
int command_replay (int argc, char **argv);
int command_cursor (int argc, char **argv);
int command_get (int argc, char **argv);
int command_trace (int argc, char **argv);
int command_correct (int argc, char **argv);
int command_request (int argc, char **argv);
int command_respond (int argc, char **argv);
int command_work (int argc, char **argv);
int command_group (int argc, char **argv);
int command_blob (int argc, char **argv);
int command_nodes (int argc, char **argv);
int command_status (int argc, char **argv);
int command_inspect (int argc, char **argv);
int command_verify (int argc, char **argv);
int command_repair (int argc, char **argv);
int command_dump (int argc, char **argv);
int command_bench (int argc, char **argv);

#endif
