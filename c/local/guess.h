/* SPDX-License-Identifier: Apache-2.0
 *
 * Guesses of what names stand for, by directory and name: what lookup.c and remove.c keep in the
 * name cache and take out of it. They are made on file systems with file handles, where an inode
 * number in use is nobody else's. Queue thread, all of these; nodes are pinned by the caller.
 */
#pragma once

#include "local.h"
#include "name_cache.h"

/* This is what the name stands for, as stx has just shown. */
void guess_learn(struct local *local, const struct inode *dir, const char *name,
                 const struct inode *inode, const struct statx *stx);

/* The node that the name may stand for, pinned and with its descriptor open, so that nobody gets
 * its inode number meanwhile; NULL: no idea. Take it for true only with a proof. */
struct inode *guess_node(struct local *local, const struct inode *dir, const char *name,
                         struct name_guess *guess);

/* Whether attributes that were asked for since are those of the guessed node. */
bool guess_is_proof(const struct statx *stx, const struct name_guess *guess);

/* Whether there is a guess: then something of that name is likely to be there. */
bool guess_expects(struct local *local, const struct inode *dir, const char *name);

/* Whether the name is likely to stand for a node that the guest holds; true where nobody can say.
 */
bool guess_is_known(struct local *local, const struct inode *dir, const char *name);

/* The name is gone, or what it stood for has another: the guesses follow. */
void guess_drop(struct local *local, const struct inode *dir, const char *name);
void guess_follow(struct local *local, const struct inode *dir, const char *name,
                  const struct inode *newdir, const char *newname);
