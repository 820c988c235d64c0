/* SPDX-License-Identifier: Apache-2.0
 *
 * What the test programs share: a check that cannot be compiled out and names its line.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define SKIP(reason)                                                                               \
    do {                                                                                           \
        puts(reason);                                                                              \
        exit(77);                                                                                  \
    } while (0)
