package prefork

import (
	"time"

	"github.com/goproc/goproc/core/sys"
	"github.com/goproc/goproc/core/trace"
)

// The spawn server's processes are children of this process, and announce themselves by STANDBY. One that is killed
// before that would stay a zombie, and the request that it was forked for would wait. So the server says by FORKED that
// it has forked a process. If no STANDBY follows, this process looks from time to time whether that child has ended.

// The pauses between these looks: the first, and the longest.
const (
	firstLook   = 100 * time.Millisecond
	longestLook = time.Second
)

// announced notes that a process has sent STANDBY. s is locked.
func (s *server) announced(pid int) {
	if s.foreign() {
		return
	}
	if _, ok := s.expected[pid]; ok {
		delete(s.expected, pid)
	} else {
		s.early[pid] = true
	}
}

// expect notes that the server has forked a process, which is to send STANDBY. s is locked.
func (s *server) expect(pid int, ahead bool) {
	if s.early[pid] {
		delete(s.early, pid)
		return
	}
	s.expected[pid] = ahead
	time.AfterFunc(firstLook, func() { s.lookFor(pid, firstLook) })
}

// lookFor looks whether a process that has not sent STANDBY has ended. If it runs, lookFor looks again later. pause: how
// long it has waited.
func (s *server) lookFor(pid int, pause time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ahead, ok := s.expected[pid]
	if !ok {
		return
	}
	if !sys.ReapIfEnded(pid) {
		pause = min(2*pause, longestLook)
		time.AfterFunc(pause, func() { s.lookFor(pid, pause) })
		return
	}
	trace.Printf("process %d of the %s %d has ended before it stood by", pid, s.client.name, s.pid)
	delete(s.expected, pid)
	if ahead {
		s.ended++
	} else if len(s.waiting) > 0 {
		go func() { _ = s.send(requestFork, 0) }() // if the server is gone, the reader answers the request
	}
}

// reapExpected ends the processes that will not be able to send STANDBY any more. s is locked.
func (s *server) reapExpected() {
	for pid := range s.expected {
		sys.KillAndReap(pid)
	}
	clear(s.expected)
}
