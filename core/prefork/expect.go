package prefork

import (
	"time"

	"github.com/goproc/goproc/core/guard"
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
	if !s.looking {
		s.looking = true
		go s.lookForExpected()
	}
}

// lookForExpected looks from time to time, until all expected processes have sent STANDBY, or have ended.
func (s *server) lookForExpected() {
	defer guard.Goroutine("looking for a server's processes")
	for pause := firstLook; !sys.WaitClosed(s.done, pause) && s.look(); {
		pause = min(2*pause, longestLook)
	}
}

// look reaps the expected processes that have ended. It reports whether some are left.
func (s *server) look() (some bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for pid, ahead := range s.expected {
		if !sys.ReapIfEnded(pid) {
			continue
		}
		trace.Printf("process %d of the %s %d has ended before it stood by", pid, s.client.name, s.pid)
		delete(s.expected, pid)
		if ahead {
			s.ended++
		} else if len(s.waiting) > 0 {
			go func() { _ = s.send(requestFork, 0) }() // if the server is gone, the reader answers the request
		}
	}
	s.looking = len(s.expected) > 0
	return s.looking
}

// reapExpected ends the processes that have not sent STANDBY. s is locked.
func (s *server) reapExpected() {
	s.reaped = map[int]bool{}
	for pid := range s.expected {
		s.reaped[pid] = true
		sys.KillAndReap(pid)
	}
	clear(s.expected)
}
