/* SPDX-License-Identifier: Apache-2.0
 *
 * The deliberate fault that proves a sanitizer build to be one.
 */
#include "api.h"

#include <errno.h>
#include <stdlib.h>

#ifdef __SANITIZE_ADDRESS__
int ovfs_selftest_fault(void)
{
    char *volatile byte = malloc(1); /* volatile: the compiler must not see what is done here */

    free(byte);
    return byte[0];
}
#else
int ovfs_selftest_fault(void)
{
    return -ENOSYS;
}
#endif
