package process

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/goproc/goproc/core/sys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// foreign starts a process that the table takes for a child of the fork server; this test reaps it, as the server
// would.
func foreign(t *testing.T, script string) (pid int, pidfd *sys.FD) {
	t.Helper()
	pid = forked(t, script)
	pidfd, err := sys.PidfdOpen(pid)
	require.NoError(t, err)
	return pid, pidfd
}

func TestStatusOfAServersChildComesFromTheServer(t *testing.T) {
	table := newTable(t)
	pid, pidfd := foreign(t, "exit 3")
	id, err := table.Adopt(pid, pidfd, true)
	require.NoError(t, err)
	assert.Zero(t, table.Started(Forkserver))
	require.NoError(t, table.Employ(id, Forkserver))
	require.ErrorIs(t, table.Employ(id, Forkserver), ErrInvalid)
	sentinel, err := table.Sentinel(id)
	require.NoError(t, err)
	assert.Equal(t, pidfd.Int(), sentinel)
	status := make(chan int, 1)
	require.NoError(t, table.OnExit(id, func(s int) { status <- s }))

	poll(t, sentinel)
	code, err := table.ExitCode(id)
	require.NoError(t, err)
	assert.Equal(t, Running, code, "ended, but only the server knows how")
	assert.Empty(t, status)
	_, err = unix.Wait4(pid, nil, 0, nil)
	require.NoError(t, err)

	table.Exited(id, 3)
	code, err = table.ExitCode(id)
	require.NoError(t, err)
	assert.Equal(t, 3, code)
	assert.Equal(t, 3, receive(t, status))
	table.Exited(id, 4)
	code, err = table.ExitCode(id)
	require.NoError(t, err)
	assert.Equal(t, 3, code, "a status is kept once")
	assert.EqualValues(t, 1, table.Started(Forkserver))
	table.Forget(id)
	dropped(t, table)
}

func TestOrphansHaveAnUnknownStatus(t *testing.T) {
	table := newTable(t)
	for _, endedBefore := range []bool{true, false} {
		pid, pidfd := foreign(t, "exec sleep 1000")
		id, err := table.Adopt(pid, pidfd, true)
		require.NoError(t, err)
		sentinel := pidfd.Int()
		status := make(chan int, 1)
		require.NoError(t, table.OnExit(id, func(s int) { status <- s }))
		if endedBefore {
			require.NoError(t, table.Signal(id, 9))
			poll(t, sentinel)
			table.Orphan(id)
		} else {
			table.Orphan(id)
			code, err := table.ExitCode(id)
			require.NoError(t, err)
			assert.Equal(t, Running, code)
			require.NoError(t, table.Signal(id, 9))
			poll(t, sentinel)
		}
		code, err := table.ExitCode(id)
		require.NoError(t, err)
		assert.Equal(t, Unknown, code)
		assert.Equal(t, Unknown, receive(t, status))
		sys.KillAndReap(pid)
	}
}

// The reaper may look at an orphan at any moment of its end.
func TestOrphansThatEndMeanwhile(t *testing.T) {
	table := newTable(t)
	for range 1000 {
		pid, pidfd := foreign(t, "exec sleep 1000")
		id, err := table.Adopt(pid, pidfd, true)
		require.NoError(t, err)
		table.Forget(id)
		require.NoError(t, unix.Kill(pid, unix.SIGKILL))
		for begin, pause := time.Now(), time.Duration(rand.IntN(300))*time.Microsecond; time.Since(begin) < pause; {
		}
		table.Orphan(id)
		sys.KillAndReap(pid)
		dropped(t, table)
	}
}

func TestAdoptedChildrenAreWaitedFor(t *testing.T) {
	table := newTable(t)
	pid, pidfd := foreign(t, "exit 3")
	id, err := table.Adopt(pid, pidfd, false)
	require.NoError(t, err)
	assert.Zero(t, table.Running(), "it is none of the program's")
	require.NoError(t, table.Employ(id, Spawn))
	status := make(chan int, 1)
	require.NoError(t, table.OnExit(id, func(s int) { status <- s }))
	assert.Equal(t, 3, receive(t, status))
	assert.EqualValues(t, 1, table.Started(Spawn))
	table.Forget(id)
	dropped(t, table)
}

func TestWhatCannotBeAdoptedIsEnded(t *testing.T) {
	table := NewTable()
	require.NoError(t, table.Close())
	pid, pidfd := foreign(t, "exec sleep 1000")
	_, err := table.Adopt(pid, pidfd, false)
	require.ErrorIs(t, err, ErrClosed)
	assert.Equal(t, -1, pidfd.Int())
	_, err = unix.Wait4(pid, nil, 0, nil)
	require.ErrorIs(t, err, unix.ECHILD)

	pid, pidfd = foreign(t, "exec sleep 1000")
	_, err = table.Adopt(pid, pidfd, true)
	require.ErrorIs(t, err, ErrClosed)
	_, err = unix.Wait4(pid, nil, 0, nil)
	require.NoError(t, err, "its parent waits for it")
	require.ErrorIs(t, table.Employ(12345, Spawn), ErrClosed)
	table.Exited(12345, 3)
	table.Orphan(12345)
}
