package process

import (
	"testing"

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
	id, err := table.Expect()
	require.NoError(t, err)
	pid, pidfd := foreign(t, "exit 3")
	sentinel, err := table.Adopt(id, pid, pidfd)
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
		id, err := table.Expect()
		require.NoError(t, err)
		pid, pidfd := foreign(t, "exec sleep 1000")
		sentinel, err := table.Adopt(id, pid, pidfd)
		require.NoError(t, err)
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

func TestProcessForgottenBeforeItStartedIsEnded(t *testing.T) {
	table := newTable(t)
	id, err := table.Expect()
	require.NoError(t, err)
	table.Forget(id)
	pid, pidfd := foreign(t, "exec sleep 1000")
	_, err = table.Adopt(id, pid, pidfd)
	require.NoError(t, err)
	var status unix.WaitStatus
	_, err = unix.Wait4(pid, &status, 0, nil)
	require.NoError(t, err)
	assert.Equal(t, unix.SIGKILL, status.Signal())
	table.Exited(id, -9)
	dropped(t, table)
}

func TestAdoptOfWhatIsNotExpected(t *testing.T) {
	table := newTable(t)
	id, err := table.Prepare()
	require.NoError(t, err)
	for _, id := range []int{id, 12345} {
		pid, pidfd := foreign(t, "exec sleep 1000")
		_, err := table.Adopt(id, pid, pidfd)
		require.ErrorIs(t, err, ErrInvalid)
		assert.Equal(t, -1, pidfd.Int())
		_, err = unix.Wait4(pid, nil, 0, nil)
		require.NoError(t, err, "it is ended")
	}
	require.NoError(t, table.Abort(id))
	table.Exited(id, 3)
	table.Orphan(id)
}
