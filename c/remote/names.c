/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"

#include "dentry.h"
#include "stamp.h"

enum name_answer names_find(struct remote *remote, struct node *dir, const char *name, size_t len,
                            uint64_t now_ns, struct name_known *out)
{
    bool says = node_listed(remote, dir, name, len, &out->from);
    struct dentry dentry;

    out->has_listed = says && out->from.found && out->from.listed.ino != 0;
    if (dentry_find(remote->dentries, node_ino(dir), name, len, &dentry) &&
        (!says || dentry.stamp > out->from.stamp)) {
        if (dentry.until_ns > now_ns) {
            out->ino = dentry.ino;
            out->until_ns = dentry.until_ns;
            out->has_listed = out->has_listed && out->from.listed.ino == dentry.ino;
            return dentry.ino ? NAME_IS : NAME_NONE;
        }
        if (dentry.overlay)
            return NAME_UNKNOWN; /* the listing is known to be wrong about it */
    }
    if (!says || out->from.until_ns <= now_ns)
        return NAME_UNKNOWN;
    out->until_ns = out->from.until_ns;
    out->ino = out->from.found ? out->from.listed.ino : 0;
    if (out->from.found && out->ino == 0)
        return NAME_UNKNOWN; /* listed without a node */
    return out->from.found ? NAME_IS : NAME_NONE;
}

/* Whether the listing says something else of the name. */
static bool contradicts(const struct listed_name *from, uint64_t ino, uint64_t until_ns)
{
    if (until_ns == 0)
        return true; /* whatever it is now */
    if (ino == 0)
        return from->found;
    return !from->found || (from->listed.ino != 0 && from->listed.ino != ino);
}

int names_set(struct remote *remote, uint64_t parent, const char *name, size_t len, uint64_t ino,
              uint64_t until_ns)
{
    struct node *dir = node_find(remote, parent, false);
    struct dentry dentry = {.ino = ino, .until_ns = until_ns, .stamp = stamp_new(&remote->stamps)};
    struct listed_name from;
    int err = 0;

    if (dir && node_listed(remote, dir, name, len, &from))
        dentry.overlay = contradicts(&from, ino, until_ns);
    if (dentry.overlay)
        node_listing_changed(remote, dir);
    if (until_ns == 0 && !dentry.overlay)
        dentry_remove(remote->dentries, parent, name, len);
    else
        err = dentry_set(remote->dentries, parent, name, len, &dentry);
    if (err < 0 && dentry.overlay)
        stamp_mark(&remote->stamps, STAMP_LOOKUPS, parent);
    if (dir)
        node_unpin(remote, dir);
    return err;
}
