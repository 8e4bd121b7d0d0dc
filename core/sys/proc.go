package sys

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// Package os has files polled by the Go runtime: see clock.go. So /proc is read by system calls.

// readLink returns what a symbolic link of /proc says, nothing if there is none.
func readLink(path string) string {
	buffer := make([]byte, 4096)
	n, err := unix.Readlink(path, buffer)
	if err != nil {
		return ""
	}
	return string(buffer[:n])
}

// openDescriptors lists the open descriptors, and perhaps some that are not open.
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

// mostTried is how many numbers are tried without /proc.
const mostTried = 1 << 16
