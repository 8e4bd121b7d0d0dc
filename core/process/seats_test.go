package process

import (
	"testing"
	"time"

	"github.com/goproc/goproc/core/sys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// newSeats makes the seats of a process as C does.
func newSeats() *Seats {
	s := &Seats{}
	s.epoll.Store(-1)
	return s
}

// sit puts a process that runs into the seat, as C does, and returns its id.
func sit(t *testing.T, s *Seats, index int, script string) (id int) {
	t.Helper()
	pid := forked(t, script)
	pidfd, err := unix.PidfdOpen(pid, 0)
	require.NoError(t, err)
	seat := &s.seats[index]
	seat.acquire()
	defer seat.release()
	seat.generation.Add(1)
	seat.adopted.Store(0)
	seat.pid, seat.sentinel, seat.mark, seat.forgotten = int32(pid), int32(pidfd), sys.Mark(pidfd), 0
	s.highest.Store(max(s.highest.Load(), int32(index)+1))
	seat.state.Store(seatRunning)
	s.started.Add(1)
	id = -1 - (int(seat.generation.Load())*SeatCount + index)
	if epoll := int(s.epoll.Load()); epoll >= 0 {
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(id), Pad: int32(id >> 32)}
		require.NoError(t, unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, pidfd, &event))
	}
	return id
}

// vacate reaps the process once it has ended, and gives the seat back, as C does. It returns the status.
func vacate(t *testing.T, s *Seats, index int) (status int) {
	t.Helper()
	seat := &s.seats[index]
	poll(t, int(seat.sentinel))
	seat.acquire()
	defer seat.release()
	require.True(t, seat.look())
	require.NoError(t, unix.Close(int(seat.sentinel)))
	seat.state.Store(seatFree)
	return int(seat.status)
}

// reaches waits until the seat has the state.
func reaches(t *testing.T, s *seat, state int32) {
	t.Helper()
	require.Eventually(t, func() bool { return s.state.Load() == state }, 20*time.Second, time.Millisecond)
}

// alive says whether the process has not been reaped.
func alive(s *seat) bool { return unix.Kill(int(s.pid), 0) == nil }

func TestSeatsFromBeforeTheEngine(t *testing.T) {
	table, seats := newTable(t), newSeats()
	sit(t, seats, 0, "exit 3")
	poll(t, int(seats.seats[0].sentinel))
	kept := sit(t, seats, 2, "exec sleep 1000")
	assert.Zero(t, table.Started(Fork))

	table.Share(seats)
	assert.EqualValues(t, 2, table.Started(Fork))
	assert.Equal(t, 3, vacate(t, seats, 0), "it had ended before")
	assert.Equal(t, 1, table.Running())

	sit(t, seats, 1, "exit 5")
	assert.Equal(t, 5, vacate(t, seats, 1), "it was started afterwards")

	require.NoError(t, table.Signal(kept, int(unix.SIGTERM)))
	assert.Equal(t, -15, exitOf(t, table, kept), "it has been adopted")
	table.Forget(kept)
	dropped(t, table)
	assert.EqualValues(t, seatFree, seats.seats[2].state.Load())
	_, err := table.ExitCode(kept)
	require.ErrorIs(t, err, ErrInvalid)
}

func TestForgottenSeatIsGivenBack(t *testing.T) {
	table, seats := newTable(t), newSeats()
	sit(t, seats, 0, "exec sleep 1000")
	seat := &seats.seats[0]
	seat.forgotten = 1
	table.Share(seats)
	require.NoError(t, unix.Kill(int(seat.pid), unix.SIGKILL))
	reaches(t, seat, seatFree)
	assert.False(t, alive(seat))
}

func TestSeatsWithoutDescriptorsForAReaper(t *testing.T) {
	table, seats := newTable(t), newSeats()
	id := sit(t, seats, 0, "exit 3")
	withoutDescriptors(t, func() {
		table.Share(seats)
		_, err := table.ExitCode(id)
		require.ErrorIs(t, err, unix.EMFILE)
	})
	assert.EqualValues(t, -1, seats.epoll.Load())
	assert.Equal(t, 3, exitOf(t, table, id))
	table.Forget(id)
	dropped(t, table)
}

func TestClosedTableLeavesSeatsToC(t *testing.T) {
	table, seats := NewTable(), newSeats()
	table.Share(seats)
	sit(t, seats, 0, "exec sleep 1000")
	require.NoError(t, table.Close())
	assert.EqualValues(t, 1, seats.refused.Load())
	assert.EqualValues(t, -1, seats.epoll.Load())
	seat := &seats.seats[0]
	assert.True(t, alive(seat))
	require.NoError(t, unix.Kill(int(seat.pid), unix.SIGKILL))
	poll(t, int(seat.sentinel))
	assert.True(t, seat.look())
	assert.Equal(t, -9, vacate(t, seats, 0))

	late := newSeats()
	table.Share(late)
	assert.EqualValues(t, 1, late.refused.Load())
}

// left starts a process that ends with status 4, and waits until the reaper has left that to who asks.
func left(t *testing.T, table *Table) (id, pid int) {
	t.Helper()
	id, err := table.Spawn(Spawn, shell("exit 4"))
	require.NoError(t, err)
	e, err := table.entry(id)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.left
	}, 20*time.Second, time.Millisecond)
	return id, e.pid
}

func TestStatusIsLeftToWhoAsks(t *testing.T) {
	table, seats := newTable(t), newSeats()
	table.Share(seats)
	sit(t, seats, 0, "exit 3")
	id, pid := left(t, table)
	poll(t, int(seats.seats[0].sentinel))

	for pid, status := range map[int]int{int(seats.seats[0].pid): 3, pid: 4} {
		var how unix.WaitStatus
		reaped, err := unix.Wait4(pid, &how, 0, nil)
		require.NoError(t, err)
		assert.Equal(t, pid, reaped)
		assert.Equal(t, status, how.ExitStatus())
	}
	assert.Equal(t, Unknown, exitOf(t, table, id), "somebody else has asked")
	assert.Equal(t, Unknown, vacate(t, seats, 0))
	table.Forget(id)
	dropped(t, table)
}

func TestSubscribingToWhatHasBeenLeft(t *testing.T) {
	table := newTable(t)
	id, _ := left(t, table)
	told := make(chan int, 1)
	require.NoError(t, table.OnExit(id, func(status int) { told <- status }))
	assert.Equal(t, 4, receive(t, told))
	table.Forget(id)
	dropped(t, table)
}
