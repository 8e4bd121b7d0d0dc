package process

import (
	"errors"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/goproc/goproc/core/guard"
	"github.com/goproc/goproc/core/sys"
	"golang.org/x/sys/unix"
)

// Seats is memory in which C lists the children that it forks. So C can start, join and give up a process without an
// engine, and where there is one, without a call into Go. Such a call would wake threads of the idle runtime, which
// then write to memory that the fork has just made copy-on-write. goproc.h describes the memory.
//
// A seat's id is negative, other entries' ids are positive. C takes seats and gives them back. When the pidfd becomes
// readable, Go reaps what C has not reaped yet. When one of the Table's methods is called with a seat's id, Go adopts
// the seat: it makes an entry of it, and from then on the seat is Go's.
type Seats struct {
	refused atomic.Int32  // not 0: C takes no further seats
	epoll   atomic.Int32  // of the reaper, -1 while there is none
	highest atomic.Int32  // no seat from here on has ever been taken
	witness atomic.Int32  // a pipe of the reaper: as long as its mark is right, the number of the epoll is right, too
	mark    atomic.Uint32 // of the witness; 0 for none
	_       int32
	started atomic.Int64 // how many processes have been started in seats
	seats   [SeatCount]seat
}

// SeatCount is how many processes can be in seats at a time; further ones are started through Prepare and Commit.
const SeatCount = 1024

// seat is one process. Only the holder of its lock writes its fields. Without the lock, state, generation and adopted
// are read as hints: code that acts on them takes the lock, and looks again.
type seat struct {
	lock       atomic.Uint32 // held for moments only
	state      atomic.Int32
	generation atomic.Uint32 // how often the seat has been taken
	pid        int32
	sentinel   int32  // its pidfd, or the read end of its tether
	mark       uint32 // of the sentinel
	status     int32
	adopted    atomic.Int32 // Go has an entry for it
	forgotten  int32        // nobody will ask about the process any more: when it has ended, the seat is given back
}

// The states of a seat.
const (
	seatFree = iota
	seatRunning
	seatEnded
	seatTaken // the child is being forked
)

// acquire locks the seat of the id, and returns it. It returns nil, and locks nothing, if the seat has been given back
// since.
func (s *Seats) acquire(id int) *seat {
	n := -1 - id
	seat := &s.seats[n%SeatCount]
	seat.acquire()
	if int(seat.generation.Load()) != n/SeatCount || !seat.occupied() {
		seat.release()
		return nil
	}
	return seat
}

func (s *seat) acquire() {
	for !s.lock.CompareAndSwap(0, 1) {
		runtime.Gosched()
	}
}

func (s *seat) occupied() bool {
	state := s.state.Load()
	return state == seatRunning || state == seatEnded
}

func (s *seat) release() { s.lock.Store(0) }

// look reaps the process if it has ended. The seat is locked.
func (s *seat) look() (ended bool) {
	if s.state.Load() == seatRunning {
		status, done, err := sys.Wait(int(s.pid))
		if err != nil {
			status, done = Unknown, true // see entry.check
		}
		if done {
			s.status = int32(status)
			s.state.Store(seatEnded)
		}
	}
	return s.state.Load() == seatEnded
}

// Share gives the table this process's seats. Processes in them may be running, or may have ended.
func (t *Table) Share(s *Seats) {
	t.mu.Lock()
	defer t.mu.Unlock()
	guard.OnPoison(func() { s.refused.Store(1) })
	t.seats = s
	switch {
	case t.closed:
		s.refused.Store(1)
	case t.reaper != nil:
		t.watchSeats()
	default:
		_ = t.ready() // if there are no descriptors for a reaper now, the next call that needs it tries again
	}
}

// watchSeats has the reaper watch the processes in seats, and reports whether it can. t is locked.
func (t *Table) watchSeats() (all bool) {
	// C may start a process meanwhile. It writes highest before it reads epoll. So either this loop sees the process,
	// or C sees the epoll, and adds the process to it.
	poller := t.reaper.poller.Load()
	witness, mark := poller.Witness()
	t.seats.witness.Store(int32(witness))
	t.seats.mark.Store(mark)
	t.seats.epoll.Store(int32(poller.Int()))
	all = true
	for i := range t.seats.seats[:t.seats.highest.Load()] {
		s := &t.seats.seats[i]
		s.acquire()
		if s.state.Load() == seatRunning && s.adopted.Load() == 0 {
			err := error(unix.EBADF)
			if sys.Mark(int(s.sentinel)) == s.mark {
				err = poller.AddNumber(int(s.sentinel), s.id(i))
			}
			all = all && (err == nil || errors.Is(err, unix.EEXIST)) // EEXIST: C has added it
		}
		s.release()
	}
	return all
}

// id is the id of the process in this seat, which is seat number i.
func (s *seat) id(i int) int { return -1 - (int(s.generation.Load())*SeatCount + i) }

// lookAtSeats settles the seats that have no entry, and reports whether a process in one of them runs. t is locked.
func (t *Table) lookAtSeats() (some bool) {
	if t.seats == nil {
		return false
	}
	for i := range t.seats.seats[:t.seats.highest.Load()] {
		s := &t.seats.seats[i]
		if s.state.Load() == seatRunning && s.adopted.Load() == 0 {
			t.settleSeat(s.id(i))
			some = some || s.state.Load() == seatRunning
		}
	}
	return some
}

// settleSeat reaps the process in a seat that has no entry, if it has ended and nobody will ask about it. The seat is
// free from then on. Else the status is left to who asks: see entry.isLeft. t is locked.
func (t *Table) settleSeat(id int) {
	s := t.seats.acquire(id)
	if s == nil {
		return
	}
	defer s.release()
	ours := sys.Mark(int(s.sentinel)) == s.mark
	if s.forgotten == 0 || !s.look() {
		if ours && sys.ReadableNumber(int(s.sentinel)) { // it would be reported for ever
			_ = t.reaper.poller.Load().RemoveNumber(int(s.sentinel))
			if s.forgotten != 0 || !sys.Ended(int(s.pid)) { // a tether that the child has closed
				t.reaper.lookSoon()
			}
		}
		return
	}
	if ours {
		_ = t.reaper.poller.Load().RemoveNumber(int(s.sentinel))
		_ = unix.Close(int(s.sentinel))
	}
	s.state.Store(seatFree)
}

// adopt makes an entry of a seat. It returns nil if the seat has been given back. t is locked.
func (t *Table) adopt(id int) (*entry, error) {
	if t.seats == nil {
		return nil, nil
	}
	if err := t.ready(); err != nil {
		return nil, err
	}
	s := t.seats.acquire(id)
	if s == nil {
		return nil, nil
	}
	defer s.release()
	e := &entry{id: id, method: Fork, state: running, pid: int(s.pid), pidfd: sys.NewMarkedFD(int(s.sentinel), s.mark, "sentinel"), seat: s, watched: true}
	s.adopted.Store(1)
	t.entries[id] = e
	if s.state.Load() == seatEnded || sys.Ended(int(s.pid)) {
		t.reaper.settle(id)
	}
	return e, nil
}

// unseat gives the entry's seat back, if it has one, before its descriptor is closed. The entry is locked.
func (e *entry) unseat() {
	if e.seat == nil {
		return
	}
	e.seat.acquire()
	e.seat.state.Store(seatFree)
	e.seat.release()
	e.seat = nil
}

// seated counts the processes in seats without an entry that are not known to have ended. t is locked.
func (t *Table) seated() (n int) {
	if t.seats == nil {
		return 0
	}
	for i := range t.seats.seats[:t.seats.highest.Load()] {
		if s := &t.seats.seats[i]; s.state.Load() == seatRunning && s.adopted.Load() == 0 {
			n++
		}
	}
	return n
}

// SeatsLayout has the sizes, offsets and numbers in which C must agree: a test in package capi compares them with
// goproc.h.
func SeatsLayout() map[string]int64 {
	var s Seats
	return map[string]int64{
		"seat size":       int64(unsafe.Sizeof(s.seats[0])),
		"seats":           int64(unsafe.Offsetof(s.seats)),
		"seats refused":   int64(unsafe.Offsetof(s.refused)),
		"seats epoll":     int64(unsafe.Offsetof(s.epoll)),
		"seats highest":   int64(unsafe.Offsetof(s.highest)),
		"seats witness":   int64(unsafe.Offsetof(s.witness)),
		"seats mark":      int64(unsafe.Offsetof(s.mark)),
		"seats started":   int64(unsafe.Offsetof(s.started)),
		"seat count":      SeatCount,
		"seat state":      int64(unsafe.Offsetof(s.seats[0].state)),
		"seat generation": int64(unsafe.Offsetof(s.seats[0].generation)),
		"seat pid":        int64(unsafe.Offsetof(s.seats[0].pid)),
		"seat sentinel":   int64(unsafe.Offsetof(s.seats[0].sentinel)),
		"seat mark":       int64(unsafe.Offsetof(s.seats[0].mark)),
		"seat status":     int64(unsafe.Offsetof(s.seats[0].status)),
		"seat adopted":    int64(unsafe.Offsetof(s.seats[0].adopted)),
		"seat forgotten":  int64(unsafe.Offsetof(s.seats[0].forgotten)),
		"seat free":       seatFree,
		"seat running":    seatRunning,
		"seat ended":      seatEnded,
		"seat taken":      seatTaken,
		"status unknown":  Unknown,
	}
}
