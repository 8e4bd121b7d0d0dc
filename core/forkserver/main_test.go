package forkserver

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goproc/goproc/core/leakcheck"
	"github.com/goproc/goproc/core/sys"
	"golang.org/x/sys/unix"
)

// TestMain also is the fork server of these tests, when it is executed as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "serve" {
		socket, err := strconv.Atoi(os.Args[2])
		if err != nil {
			panic(err)
		}
		serve(sys.NewFD(socket, "socket"), os.Args[3])
	}
	if len(os.Args) == 3 && os.Args[1] == "stand-by" {
		standBy(os.Args[2])
	}
	os.Exit(leakcheck.Main(m))
}

// standBy is a process that the server has forked ahead: it waits for the script that it is to run.
func standBy(number string) {
	socket, err := strconv.Atoi(number)
	if err != nil {
		panic(err)
	}
	n, passed, err := sys.Receive(sys.NewFD(socket, "socket"), make([]byte, 2))
	if n == 0 && err == nil {
		os.Exit(0)
	}
	if n != 1 || err != nil || len(passed) != 1 {
		panic(err)
	}
	script := fmt.Sprintf("/proc/self/fd/%d", passed[0].Int())
	if _, err := unix.FcntlInt(uintptr(passed[0].Int()), unix.F_SETFD, 0); err != nil {
		panic(err)
	}
	panic(unix.Exec("/bin/sh", []string{"sh", script}, os.Environ()))
}

// serve is a fork server as the client sees it. The one descriptor that comes with a request is a file with a shell script,
// to be run as the process. How it behaves besides is in its manners, words with commas between.
func serve(socket *sys.FD, manners string) {
	has := func(word string) bool { return strings.Contains(","+manners+",", ","+word+",") }
	send := func(kind, id uint32, pid, value int, fds ...int) {
		if err := sys.Send(socket, packet(kind, id, int32(pid), int32(value)), fds, time.Second); err != nil {
			os.Exit(0)
		}
	}
	if has("garbage") {
		_ = sys.Send(socket, []byte("garbage"), nil, time.Second)
	}
	var reaping sync.Mutex // a status is sent after the start it belongs to
	wait := func(pid int) int {
		var status unix.WaitStatus
		_, _ = unix.Wait4(pid, &status, 0, nil)
		if status.Signaled() {
			return -int(status.Signal())
		}
		return status.ExitStatus()
	}
	taken := map[int]chan uint32{} // the ids of those that stood by, once they are known
	forkAhead := func() {
		ours, theirs, err := sys.Seqpacket("standby")
		if err != nil {
			panic(err)
		}
		pid, err := sys.Execute("/proc/self/exe", []string{"x", "stand-by", strconv.Itoa(theirs.Int())}, os.Environ(), []int{theirs.Int()})
		if err != nil {
			panic(err)
		}
		pidfd, err := sys.PidfdOpen(pid)
		if err != nil {
			panic(err)
		}
		_ = theirs.Close()
		id := make(chan uint32, 1)
		taken[pid] = id
		send(uint32(Standby), 0, pid, 0, pidfd.Int(), ours.Int())
		if has("repeated") {
			send(uint32(Standby), 0, pid, 0, pidfd.Int(), ours.Int())
		}
		_ = ours.Close()
		go func() {
			status := wait(pid)
			send(uint32(Gone), 0, pid, 0) // of one that was taken, too: it may have been just then
			send(uint32(Exited), <-id, pid, status)
		}()
	}
	if has("standbys") {
		forkAhead()
		forkAhead()
	}
	buffer := make([]byte, requestSize+1)
	for {
		n, passed, err := sys.Receive(socket, buffer)
		if n == 0 && has("immortal") {
			select {}
		}
		if n == 0 || err != nil {
			os.Exit(0)
		}
		if n != requestSize {
			panic(n)
		}
		id := binary.LittleEndian.Uint32(buffer[4:])
		switch binary.LittleEndian.Uint32(buffer) {
		case requestPing:
			if !has("mute") {
				send(uint32(Pong), id, os.Getpid(), 0)
			}
		case requestTaken:
			taken[int(binary.LittleEndian.Uint32(buffer[8:]))] <- id
			forkAhead()
		case requestStop:
			if !has("immortal") {
				os.Exit(0)
			}
		case requestStart:
			if has("die") {
				_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			}
			if has("mute") {
				continue
			}
			if has("refuse") {
				send(uint32(Failed), id, 0, int(unix.EAGAIN))
				continue
			}
			script := fmt.Sprintf("/proc/self/fd/%d", passed[0].Int())
			pid, err := sys.Execute("/bin/sh", []string{"sh", script}, nil, []int{passed[0].Int()})
			if err != nil {
				panic(err)
			}
			pidfd, err := sys.PidfdOpen(pid)
			if err != nil {
				panic(err)
			}
			reaping.Lock()
			switch {
			case has("without-pidfd"):
				send(uint32(Started), id, pid, 0)
			case has("unasked"):
				send(uint32(Started), id+1, pid, 0, pidfd.Int())
			default:
				send(uint32(Started), id, pid, 0, pidfd.Int())
			}
			reaping.Unlock()
			go func() {
				code := wait(pid)
				reaping.Lock()
				defer reaping.Unlock()
				send(uint32(Exited), id, pid, code)
				if has("twice") {
					send(uint32(Exited), id, pid, code)
				}
			}()
		}
		for _, f := range passed {
			_ = f.Close()
		}
	}
}
