/* main.c: where the program starts. What it does is in cli/. */
#include "cli/command.h"

int main(int argc, char **argv) {
    return shove_cli_main(argc, argv);
}
