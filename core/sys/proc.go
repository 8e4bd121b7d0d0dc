package sys

import (
	"strconv"

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
