/*
 * What a careful C programmer would write for this one purpose: a tmpfs root, and below it a bind mount for every path of a
 * list. It follows no symlink, resolves nothing twice, and keeps the folders that neighbours share open. It leaves the same
 * mounts as imp-mount: the first mount of the store, which the root covers, is detached, or the disk would stay in use at shutdown.
 *
 *     bindloop SYSROOT LIST
 *
 * The store is mounted at SYSROOT/persist. LIST has one absolute path a line, sorted.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { DEPTH = 64 };

/* The open folders from the top of a tree down to the entry before. */
struct walk {
	int fd[DEPTH];
	int depth;
};

static void die(const char *step, const char *name)
{
	fprintf(stderr, "bindloop: %s %s: %s\n", step, name, strerror(errno));
	exit(1);
}

static int open_below(int parent, const char *name)
{
	struct open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	int fd, tries = 0;

	do
		fd = syscall(SYS_openat2, parent, name, &how, sizeof how);
	while (fd < 0 && errno == EAGAIN && ++tries < 128);
	return fd;
}

static int open_top(const char *path)
{
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		die("open", path);
	return fd;
}

static const char *by_fd(char buffer[32], int fd)
{
	snprintf(buffer, 32, "/proc/self/fd/%d", fd);
	return buffer;
}

static void give_up_below(struct walk *walk, int depth)
{
	while (walk->depth > depth)
		close(walk->fd[walk->depth--]);
}

static void push(struct walk *walk, int fd)
{
	if (walk->depth + 1 == DEPTH) {
		errno = ENAMETOOLONG;
		die("walk", "too deep");
	}
	walk->fd[++walk->depth] = fd;
}

/* One component down on the store: opened, or created and given its owner and mode. */
static void step_source(struct walk *walk, const char *name)
{
	int parent = walk->fd[walk->depth], fd = open_below(parent, name);
	char path[32];
	struct stat st;

	if (fd < 0 && errno == ENOENT) {
		if (mkdirat(parent, name, 0700) && errno != EEXIST)
			die("mkdir", name);
		if ((fd = open_below(parent, name)) < 0)
			die("open", name);
		if (fchownat(fd, "", 0, 0, AT_EMPTY_PATH))
			die("chown", name);
		if (chmod(by_fd(path, fd), 0755))
			die("chmod", name);
	}
	if (fd < 0)
		die("open", name);
	if (fstat(fd, &st) || !S_ISDIR(st.st_mode))
		die("stat", name);
	push(walk, fd);
}

/* One component down on the new root, where nearly everything has to be made. */
static void step_target(struct walk *walk, const char *name)
{
	int parent = walk->fd[walk->depth], fd;

	if (mkdirat(parent, name, 0755) && errno != EEXIST)
		die("mkdir", name);
	if ((fd = open_below(parent, name)) < 0)
		die("open", name);
	push(walk, fd);
}

/* Binds the one over the other, and opens what is there now. */
static int bind_over(int source, int target, int parent, const char *name)
{
	char from[32], to[32];
	int fd;

	if (mount(by_fd(from, source), by_fd(to, target), NULL, MS_BIND, NULL))
		die("bind", name);
	if ((fd = open_below(parent, name)) < 0)
		die("open", name);
	by_fd(to, fd);
	if (mount(NULL, to, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV, NULL))
		die("remount", name);
	if (mount(NULL, to, NULL, MS_PRIVATE, NULL))
		die("make private", name);
	return fd;
}

/* How many leading components two paths share, and where the rest of the second begins. */
static int shared(const char *before, const char *path, const char **rest)
{
	int depth = 0, i = 1;

	*rest = path + 1;
	for (; before[i - 1] && path[i] && before[i] == path[i]; i++) {
		if (path[i] == '/') {
			depth++;
			*rest = path + i + 1;
		}
	}
	/* The whole of the one before, and more. */
	if (before[i - 1] && !before[i] && path[i] == '/') {
		depth++;
		*rest = path + i + 1;
	}
	return depth;
}

int main(int argc, char **argv)
{
	struct walk source = { 0 }, target = { 0 };
	char persist[4096], before[4096] = "", line[4096], name[256], from[32];
	FILE *list;
	int fd;

	if (argc != 3 || !(list = fopen(argv[2], "re")))
		die("usage: bindloop SYSROOT LIST", argc == 3 ? argv[2] : "");
	umask(0);
	snprintf(persist, sizeof persist, "%s/persist", argv[1]);
	source.fd[0] = open_top(persist);
	if (mount("tmpfs", argv[1], "tmpfs", 0, "mode=0755,size=1g"))
		die("mount", argv[1]);
	target.fd[0] = open_top(argv[1]);

	step_target(&target, "persist");
	fd = bind_over(source.fd[0], target.fd[1], target.fd[0], "persist");
	close(fd);
	give_up_below(&target, 0);

	while (fgets(line, sizeof line, list)) {
		const char *rest;
		int depth;

		line[strcspn(line, "\n")] = 0;
		depth = shared(before, line, &rest);
		give_up_below(&source, depth);
		give_up_below(&target, depth);
		while (*rest) {
			size_t length = strcspn(rest, "/");

			if (length >= sizeof name) {
				errno = ENAMETOOLONG;
				die("walk", rest);
			}
			memcpy(name, rest, length);
			name[length] = 0;
			step_source(&source, name);
			step_target(&target, name);
			rest += length + (rest[length] == '/');
		}
		fd = bind_over(source.fd[source.depth], target.fd[target.depth], target.fd[target.depth - 1], name);
		close(target.fd[target.depth]);
		target.fd[target.depth] = fd;
		strcpy(before, line);
	}
	if (umount2(by_fd(from, source.fd[0]), MNT_DETACH))
		die("unmount", persist);
	return 0;
}
