/* SPDX-License-Identifier: BSD-2-Clause
 * tests/guest/payload.c - selects the program by the name it was called with. */
#include "payload.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*main)(int, char **);
    } programs[] = {
        { "dirtier", dirtier_main },     { "fpcheck", fpcheck_main },     { "probe", probe_main },
        { "diskcheck", diskcheck_main }, { "diskbench", diskbench_main }, { "stress", stress_main },
        { "mirror", mirror_main },       { "diskcuts", diskcuts_main },
    };
    const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];

    for (int pass = 0; pass < 2; pass++) { /* by link name; then "payload dirtier 32 1000" */
        for (unsigned i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
            if (strcmp(name, programs[i].name) == 0)
                return programs[i].main(argc - pass, argv + pass);
        if (argc < 2)
            break;
        name = argv[1];
    }
    fprintf(stderr, "usage: payload dirtier|fpcheck|probe|diskcheck|diskbench|diskcuts|stress|mirror ARGS...\n");
    return 2;
}
