package prefork

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goproc/goproc/core/leakcheck"
	"github.com/goproc/goproc/core/sys"
	"golang.org/x/sys/unix"
)

// TestMain also is the fork server of these tests, when it is executed as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "serve" {
		socket, err := strconv.Atoi(os.Args[3])
		if err != nil {
			panic(err)
		}
		serve(sys.NewFD(socket, "socket"), os.Args[2])
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
	n, passed, err := sys.Receive(sys.NewFD(socket, "socket"), make([]byte, 100))
	if n == 0 && err == nil {
		os.Exit(0)
	}
	if err != nil || len(passed) == 0 {
		panic(err)
	}
	script := fmt.Sprintf("/proc/self/fd/%d", passed[0].Int())
	if _, err := unix.FcntlInt(uintptr(passed[0].Int()), unix.F_SETFD, 0); err != nil {
		panic(err)
	}
	panic(unix.Exec("/bin/sh", []string{"sh", script}, os.Environ()))
}

// lateVariable names the environment variable with a process that the server has forked, and tells of when it is stopped,
// later than the client waits for.
const lateVariable = "GOPROC_TEST_LATE"

// serve is a server as the client sees it. The first descriptor that a process is sent is a file with a shell script,
// to be run as the process. manners says how it behaves besides: words, separated by commas.
func serve(socket *sys.FD, manners string) {
	has := func(word string) bool { return strings.Contains(","+manners+",", ","+word+",") }
	send := func(kind Kind, pid, value int, fds ...int) {
		if err := sys.Send(socket, packet(uint32(kind), int32(pid), int32(value)), fds, time.Second); err != nil {
			os.Exit(0)
		}
	}
	if has("garbage") {
		_ = sys.Send(socket, []byte("garbage"), nil, time.Second)
	}
	fork := func() {
		if has("killed") { // the first process does not live to announce itself
			manners = strings.ReplaceAll(manners, "killed", "")
			pid, err := sys.Execute("/bin/false", []string{"false"}, os.Environ(), nil)
			if err != nil {
				panic(err)
			}
			_, _ = unix.Wait4(pid, nil, 0, nil)
			send(Forked, pid, 0)
			return
		}
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
		if has("without-pidfd") {
			send(Standby, pid, 0)
		} else {
			send(Standby, pid, 0, pidfd.Int(), ours.Int())
		}
		if has("spawner") {
			send(Forked, pid, 0)
		}
		if has("repeated") {
			send(Standby, pid, 0, pidfd.Int(), ours.Int())
		}
		_ = ours.Close()
		go func() {
			var status unix.WaitStatus
			_, _ = unix.Wait4(pid, &status, 0, nil)
			code := status.ExitStatus()
			if status.Signaled() {
				code = -int(status.Signal())
			}
			_ = pidfd.Close()
			if has("spawner") {
				return
			}
			send(Exited, pid, code)
			if has("twice") {
				send(Exited, pid, code)
			}
		}()
	}
	if has("standbys") {
		fork()
		fork()
	}
	buffer := make([]byte, requestSize+1)
	for {
		n, _, err := sys.Receive(socket, buffer)
		if n == 0 && has("immortal") {
			select {}
		}
		if n == 0 || err != nil {
			os.Exit(0)
		}
		if n != requestSize {
			panic(n)
		}
		value := int(binary.LittleEndian.Uint32(buffer[4:]))
		switch binary.LittleEndian.Uint32(buffer) {
		case requestPing:
			if !has("mute") {
				send(Pong, 0, value)
			}
		case requestTaken:
			for range value {
				fork()
			}
		case requestStop:
			if pid, err := strconv.Atoi(os.Getenv(lateVariable)); err == nil {
				time.Sleep(leavePatience + 300*time.Millisecond)
				send(Forked, pid, 0)
			}
			if !has("immortal") {
				os.Exit(0)
			}
		case requestFork:
			switch {
			case has("die"):
				_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			case has("mute"):
			case has("refuse"):
				send(Failed, 0, int(unix.EAGAIN))
			case has("unasked"):
				send(Exited, os.Getpid(), 0)
			default:
				fork()
			}
		}
	}
}
