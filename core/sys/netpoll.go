package sys

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	if canOpenPoller() {
		time.AfterFunc(time.Hour, func() {}).Stop() // a timer needs the poller
		listNetpoll()
	}
}

// canOpenPoller tries whether there is room for the poller's two descriptors: without it the runtime ends the process.
func canOpenPoller() bool {
	for range 2 {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			return false
		}
		defer func() { _ = unix.Close(fd) }()
	}
	return true
}

// listNetpoll puts the two descriptors of the Go runtime's network poller, an epoll and an eventfd, into the register:
// forked children inherit them otherwise. The runtime does not tell their numbers. A file that it polls leads to
// them: the epoll that waits for this file is the runtime's, and the eventfd that it waits for besides is the one that
// wakes it. Where /proc does not show that, children keep the two.
func listNetpoll() {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return
	}
	probe := os.NewFile(uintptr(fd), "probe")
	defer func() { _ = probe.Close() }()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, entry := range entries {
		epoll, err := strconv.Atoi(entry.Name())
		if err != nil || kindOf(epoll) != "anon_inode:[eventpoll]" {
			continue
		}
		if polled := polledBy(epoll); slices.Contains(polled, fd) {
			register.add(epoll, "")
			for _, waker := range polled {
				// The standard streams are polled, too, if they do not block.
				if waker > 2 && waker != fd && kindOf(waker) == "anon_inode:[eventfd]" {
					register.add(waker, "")
				}
			}
			return
		}
	}
}

// kindOf is what /proc says that the descriptor is.
func kindOf(fd int) string {
	kind, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	return kind
}

// polledBy lists the descriptors that an epoll waits for.
func polledBy(epoll int) (polled []int) {
	info, err := os.Open(fmt.Sprintf("/proc/self/fdinfo/%d", epoll))
	if err != nil {
		return nil
	}
	defer func() { _ = info.Close() }()
	for lines := bufio.NewScanner(info); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "tfd:" {
			if fd, err := strconv.Atoi(fields[1]); err == nil {
				polled = append(polled, fd)
			}
		}
	}
	return polled
}
