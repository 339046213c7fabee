/* embedded_pages.c: looks through an LMDB file before LMDB does.
 *
 * Control and cli, at open. LMDB maps the file and follows page numbers and offsets as it finds
 * them: on a file that was cut short, zeroed or overwritten it dies of SIGBUS, SIGSEGV or an
 * assertion. So the trees are walked here with pread, and whatever a page says is checked against
 * the file's size and the page's. Only tree pages are read (a small part of a broker's file); the
 * records in overflow pages have checksums of their own. Layout: LMDB 0.9, 64 bit, little endian.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "transport/embedded_store.h"

#define LMDB_MAGIC 0xBEEFC0DEu
#define LMDB_VERSION 1
#define FIRST_TREE_PAGE 2
#define DEPTH_MAX 32       /* LMDB's own limit on the height of a tree */
#define NO_PAGE UINT64_MAX /* root of an empty tree */
/* LMDB may leave pages at the end of the file unwritten when they were freed in the transaction
 * that took them; they are a handful. More than this missing is a file cut short, whatever the walk
 * finds. */
#define MISSING_PAGES_MAX 1024

enum { PAGE_BRANCH = 0x01, PAGE_LEAF = 0x02, PAGE_OVERFLOW = 0x04, PAGE_META = 0x08 };
enum { NODE_BIG = 0x01, NODE_TREE = 0x02 };

struct page_head {
    uint64_t number;
    uint16_t pad;
    uint16_t flags;
    uint16_t lower; /* or, with upper, the number of overflow pages */
    uint16_t upper;
};

struct node_head {
    uint16_t low; /* of the size of the data, or of the child's page number */
    uint16_t high;
    uint16_t flags;
    uint16_t key_size;
};

struct tree {
    uint32_t pad;
    uint16_t flags;
    uint16_t depth;
    uint64_t branch_pages;
    uint64_t leaf_pages;
    uint64_t overflow_pages;
    uint64_t entries;
    uint64_t root;
};

struct meta {
    uint32_t magic;
    uint32_t version;
    uint64_t address;
    uint64_t map_size;
    struct tree free; /* its pad is the size of a page */
    struct tree main;
    uint64_t last_page;
    uint64_t transaction;
};

struct walk {
    int fd;
    const char *path;
    uint32_t page_bytes;
    uint64_t file_pages; /* whole pages that are there */
    uint64_t last_page;
    bool is_free_tree;
    int64_t deadline_ms;
    struct shove_error *error;
    uint8_t *pages[DEPTH_MAX * 2]; /* one buffer for each level, sub-trees included */
};

enum { OUT_OF_TIME = 1 };

static int say_damaged(const struct walk *walk, uint64_t page, const char *what) {
    return shove_error_set(
        walk->error, SHOVE_EDAMAGED,
        "%s is damaged: page %llu %s; it was left as it is: restore it from a backup, or move it "
        "away",
        walk->path, (unsigned long long)page, what);
}

static int say_short(const struct walk *walk, uint64_t page) {
    return shove_error_set(walk->error, SHOVE_EDAMAGED,
                           "%s was cut short: it has %llu pages and page %llu is in use; it was "
                           "left as it is: restore "
                           "it from a backup, or move it away",
                           walk->path, (unsigned long long)walk->file_pages,
                           (unsigned long long)page);
}

/* ---- the head ---- */

static int say_foreign(const char *path, const char *what, struct shove_error *error) {
    return shove_error_set(
        error, SHOVE_EDAMAGED,
        "%s %s: it is not a broker's file of shove's, or it is damaged; it was left as it is: "
        "choose another name, restore it from a backup, or move it away",
        path, what);
}

static int read_meta(int fd, const char *path, off_t at, struct meta *out,
                     struct shove_error *error) {
    uint8_t bytes[sizeof(struct page_head) + sizeof(struct meta)];
    struct page_head page;
    ssize_t size = pread(fd, bytes, sizeof(bytes), at);
    if (size < 0)
        return shove_error_set(error, SHOVE_EIO, "cannot read %s: %s", path, strerror(errno));
    if (size == 0 && at == 0)
        return say_foreign(path, "is empty", error);
    if (size < (ssize_t)sizeof(bytes))
        return say_foreign(path, "is too short", error);
    memcpy(&page, bytes, sizeof(page));
    memcpy(out, bytes + sizeof(page), sizeof(*out));
    if (!(page.flags & PAGE_META) || out->magic != LMDB_MAGIC)
        return say_foreign(path, "does not begin as a broker's file does", error);
    if (out->version != LMDB_VERSION)
        return say_foreign(path, "has another version of LMDB's format", error);
    uint32_t page_bytes = out->free.pad;
    if (page_bytes < 512 || page_bytes > 65536 || (page_bytes & (page_bytes - 1)) != 0)
        return say_foreign(path, "names an impossible size of pages", error);
    return 0;
}

static int read_head(int fd, const char *path, struct meta *out, struct shove_error *error) {
    struct meta metas[2] = {0};
    int rc = read_meta(fd, path, 0, &metas[0], error);
    if (rc == 0)
        rc = read_meta(fd, path, (off_t)metas[0].free.pad, &metas[1], error);
    if (rc < 0)
        return rc;
    if (metas[0].free.pad != metas[1].free.pad)
        return say_foreign(path, "names two sizes of pages", error);
    *out = metas[metas[1].transaction > metas[0].transaction];
    return 0;
}

int shove_embedded_head_check(int fd, const char *path, struct shove_error *error) {
    struct meta meta = {0};
    return read_head(fd, path, &meta, error);
}

/* ---- the trees ---- */

static int read_page(struct walk *walk, unsigned level, uint64_t number, struct page_head *head) {
    if (level >= DEPTH_MAX * 2)
        return say_damaged(walk, number, "is deeper than a tree can be");
    if (number < FIRST_TREE_PAGE || number > walk->last_page)
        return say_damaged(walk, number, "is pointed to and cannot exist");
    if (number >= walk->file_pages)
        return say_short(walk, number);
    if (!walk->pages[level] && !(walk->pages[level] = malloc(walk->page_bytes)))
        return shove_error_set(walk->error, SHOVE_ENOMEM, "out of memory");
    ssize_t size =
        pread(walk->fd, walk->pages[level], walk->page_bytes, (off_t)(number * walk->page_bytes));
    if (size != (ssize_t)walk->page_bytes)
        return shove_error_set(walk->error, SHOVE_EIO, "cannot read page %llu of %s: %s",
                               (unsigned long long)number, walk->path,
                               size < 0 ? strerror(errno) : "end of file");
    memcpy(head, walk->pages[level], sizeof(*head));
    if (head->number != number)
        return say_damaged(walk, number, "does not carry its own number");
    if (head->flags != PAGE_BRANCH && head->flags != PAGE_LEAF)
        return say_damaged(walk, number, "is neither branch nor leaf");
    if (head->lower < sizeof(*head) || head->lower > head->upper ||
        head->upper > walk->page_bytes || head->lower % 2 != 0)
        return say_damaged(walk, number, "has impossible bounds");
    return 0;
}

static int walk_tree(struct walk *walk, unsigned level, const struct tree *tree);
static int walk_page(struct walk *walk, unsigned level, uint64_t number, unsigned depth);

static int check_big(const struct walk *walk, uint64_t page, const uint8_t *data,
                     uint64_t data_size) {
    uint64_t first;
    memcpy(&first, data, sizeof(first));
    uint64_t count = (sizeof(struct page_head) + data_size - 1) / walk->page_bytes + 1;
    if (first < FIRST_TREE_PAGE || first > walk->last_page || count > walk->last_page + 1 - first)
        return say_damaged(walk, page, "points to data that cannot exist");
    if (first + count > walk->file_pages)
        return say_short(walk, first + count - 1);
    return 0;
}

static int walk_leaf_node(struct walk *walk, unsigned level, uint64_t page,
                          const struct node_head *node, const uint8_t *data, size_t room) {
    uint64_t data_size = (uint64_t)node->low | (uint64_t)node->high << 16;
    uint64_t here = node->flags & NODE_BIG ? sizeof(uint64_t) : data_size;
    if (here > room)
        return say_damaged(walk, page, "has an entry that is larger than it");
    if (node->flags & NODE_BIG)
        return check_big(walk, page, data, data_size);
    if (!(node->flags & NODE_TREE))
        return 0;
    struct tree tree;
    if (data_size != sizeof(tree))
        return say_damaged(walk, page, "names a database that is none");
    memcpy(&tree, data, sizeof(tree));
    return walk_tree(walk, level + 1, &tree);
}

static int walk_node(struct walk *walk, unsigned level, uint64_t page, const struct page_head *head,
                     unsigned index, unsigned depth) {
    const uint8_t *bytes = walk->pages[level];
    uint16_t at;
    struct node_head node;
    if (bytes == NULL)
        return SHOVE_ENOMEM;
    memcpy(&at, bytes + sizeof(*head) + (size_t)index * sizeof(at), sizeof(at));
    if (at < head->upper || (size_t)at + sizeof(node) > walk->page_bytes)
        return say_damaged(walk, page, "has an entry outside itself");
    memcpy(&node, bytes + at, sizeof(node));
    size_t room = walk->page_bytes - at - sizeof(node);
    if (node.key_size > room)
        return say_damaged(walk, page, "has a key that is larger than it");
    if (head->flags == PAGE_LEAF)
        return walk_leaf_node(walk, level, page, &node, bytes + at + sizeof(node) + node.key_size,
                              room - node.key_size);
    uint64_t child = (uint64_t)node.low | (uint64_t)node.high << 16 | (uint64_t)node.flags << 32;
    return walk_page(walk, level + 1, child, depth - 1);
}

static int walk_page(struct walk *walk, unsigned level, uint64_t number, unsigned depth) {
    struct page_head head = {0};
    if (shove_clock_mono_ms() > walk->deadline_ms)
        return OUT_OF_TIME;
    int rc = read_page(walk, level, number, &head);
    if (rc < 0)
        return rc;
    if ((depth == 1) != (head.flags == PAGE_LEAF))
        return say_damaged(walk, number, "is at the wrong height of its tree");
    unsigned entries = (head.lower - (unsigned)sizeof(head)) / 2;
    /* LMDB itself tolerates a branch with one child in the tree of free pages only. */
    if (entries == 0 || (head.flags == PAGE_BRANCH && entries < 2 && !walk->is_free_tree))
        return say_damaged(walk, number, "has too few entries");
    for (unsigned i = 0; i < entries && rc == 0; i++)
        rc = walk_node(walk, level, number, &head, i, depth);
    return rc;
}

static int walk_tree(struct walk *walk, unsigned level, const struct tree *tree) {
    if (tree->root == NO_PAGE)
        return 0;
    if (tree->depth == 0 || tree->depth > DEPTH_MAX)
        return say_damaged(walk, tree->root, "is the root of a tree of impossible height");
    return walk_page(walk, level, tree->root, tree->depth);
}

int shove_embedded_pages_check(int fd, const char *path, int64_t budget_ms,
                               struct shove_error *error) {
    struct meta meta = {0};
    struct stat info;
    int rc = read_head(fd, path, &meta, error);
    if (rc < 0 || meta.free.pad == 0)
        return rc;
    if (fstat(fd, &info) < 0)
        return shove_error_set(error, SHOVE_EIO, "cannot look at %s: %s", path, strerror(errno));
    struct walk walk = {.fd = fd,
                        .path = path,
                        .page_bytes = meta.free.pad,
                        .file_pages = (uint64_t)info.st_size / meta.free.pad,
                        .last_page = meta.last_page,
                        .deadline_ms = shove_clock_mono_ms() + budget_ms,
                        .error = error};
    if (meta.last_page >= walk.file_pages + MISSING_PAGES_MAX)
        return say_short(&walk, meta.last_page);
    rc = walk_tree(&walk, 0, &meta.main);
    walk.is_free_tree = true;
    if (rc == 0)
        rc = walk_tree(&walk, 0, &meta.free);
    for (size_t i = 0; i < sizeof(walk.pages) / sizeof(*walk.pages); i++)
        free(walk.pages[i]);
    return rc < 0 ? rc : 0;
}

/* ---- one value ---- */

bool shove_embedded_value_is_sound(const MDB_val *value, size_t page_bytes) {
    /* LMDB keeps a value inside its leaf up to about half a page; beyond, it has its own page. */
    struct page_head head;
    if (value->mv_size <= page_bytes / 2)
        return true;
    memcpy(&head, (const uint8_t *)value->mv_data - sizeof(head), sizeof(head));
    uint32_t pages = (uint32_t)head.lower | (uint32_t)head.upper << 16;
    return head.flags == PAGE_OVERFLOW && pages == 1;
}
