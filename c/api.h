/* SPDX-License-Identifier: Apache-2.0
 *
 * ovfs_api.h with the includes that it may not have itself.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ovfs_api.h"
