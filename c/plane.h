/* SPDX-License-Identifier: Apache-2.0
 *
 * ovfs_api.h with the includes it needs, and the plane: one device with its queues, its guest
 * memory and its file system. A process may hold several planes; they share nothing.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "ovfs_api.h"
