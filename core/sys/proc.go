package sys

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// /proc is read by system calls, because package os would have the Go runtime poll the files: see clock.go.

// readLink returns the target of a symbolic link of /proc, or "" if there is no such link.
func readLink(path string) string {
	buffer := make([]byte, 4096)
	n, err := unix.Readlink(path, buffer)
	if err != nil {
		return ""
	}
	return string(buffer[:n])
}

// readOf returns a short file of a process's folder in /proc, or "" if it cannot be read.
func readOf(pid int, name string) string {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer func() { _ = unix.Close(fd) }()
	buffer := make([]byte, 1024)
	n, _ := unix.Read(fd, buffer)
	return string(buffer[:max(n, 0)])
}

// isZombie reports whether a process has ended and was not reaped, as far as /proc can be read. While other threads than
// the main one run, it has not ended: the kernel shows Z as soon as the main thread is gone, but the process cannot be
// waited for before the last one is.
func isZombie(pid int) bool {
	const state, threads = 3, 20
	text := readOf(pid, "stat")
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:]) // from state on; the command before may contain anything
	if len(fields) <= threads-state || fields[0] != "Z" && fields[0] != "X" {
		return false
	}
	n, err := strconv.Atoi(fields[threads-state])
	return err == nil && n <= 1
}

// PrivateMemory is how many bytes of private resident memory a process has: without files and shared memory, and
// without what has been swapped out. It returns false when the process has ended, or /proc cannot be read.
func PrivateMemory(pid int) (bytes uint64, ok bool) {
	fields := strings.Fields(readOf(pid, "statm"))
	if len(fields) < 3 {
		return 0, false
	}
	resident, err := strconv.ParseUint(fields[1], 10, 64)
	shared, other := strconv.ParseUint(fields[2], 10, 64)
	if err != nil || other != nil || resident < shared {
		return 0, false
	}
	return (resident - shared) * pageSize, true
}

var pageSize = uint64(unix.Getpagesize())

// openDescriptors lists the open descriptors. Some in the list may not be open.
func openDescriptors() (open []int) {
	fd, err := unix.Open("/proc/self/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		defer func() { _ = unix.Close(fd) }()
		var names []string
		buffer := make([]byte, 8192)
		for {
			n, err := unix.ReadDirent(fd, buffer)
			if err != nil || n == 0 {
				break
			}
			_, _, names = unix.ParseDirent(buffer[:n], -1, names)
		}
		for _, name := range names {
			if number, err := strconv.Atoi(name); err == nil {
				open = append(open, number)
			}
		}
		return open
	}
	// There is no /proc.
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil || limit.Cur > mostTried {
		limit.Cur = mostTried
	}
	for number := range int(limit.Cur) {
		open = append(open, number)
	}
	return open
}

// mostTried is how many numbers openDescriptors lists at most where there is no /proc.
const mostTried = 1 << 16
