package process

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestForkInTwoHalves(t *testing.T) {
	table := newTable(t)
	id, err := table.Prepare()
	require.NoError(t, err)
	_, err = table.Pid(id)
	require.ErrorIs(t, err, ErrInvalid, "it has not started")
	require.ErrorIs(t, table.Signal(id, 9), ErrInvalid)

	pid := forked(t, "exit 3")
	sentinel, err := table.Commit(id, pid)
	require.NoError(t, err)
	got, err := table.Pid(id)
	require.NoError(t, err)
	assert.Equal(t, pid, got)
	got, err = table.Sentinel(id)
	require.NoError(t, err)
	assert.Equal(t, sentinel, got)

	poll(t, sentinel)
	status, err := table.ExitCode(id)
	require.NoError(t, err)
	assert.Equal(t, 3, status, "who asks right after the sentinel fired is told")
	assert.EqualValues(t, 1, table.Started(Fork))
	assert.Zero(t, table.Running())
}

func TestAbort(t *testing.T) {
	table := newTable(t)
	id, err := table.Prepare()
	require.NoError(t, err)
	require.NoError(t, table.Abort(id))
	require.ErrorIs(t, table.Abort(id), ErrInvalid)
	assert.Zero(t, table.Started(Fork))
	dropped(t, table)
}

func TestSecondCommitLeavesTheChildAlone(t *testing.T) {
	table := newTable(t)
	id, err := table.Prepare()
	require.NoError(t, err)
	pid := forked(t, "exec sleep 1000")
	_, err = table.Commit(id, pid)
	require.NoError(t, err)
	_, err = table.Commit(id, pid)
	require.ErrorIs(t, err, ErrInvalid)
	status, err := table.ExitCode(id)
	require.NoError(t, err)
	assert.Equal(t, Running, status)
	require.ErrorIs(t, table.Abort(id), ErrInvalid)
	require.NoError(t, table.Signal(id, 9))
	assert.Equal(t, -9, exitOf(t, table, id))
}

func TestChildThatCannotBeTakenOnIsEnded(t *testing.T) {
	table := newTable(t)
	pid := forked(t, "exec sleep 1000")
	_, err := table.Commit(12345, pid)
	require.ErrorIs(t, err, ErrInvalid)
	require.ErrorIs(t, unix.Kill(pid, 0), unix.ESRCH)
	_, err = table.Commit(1, 0)
	require.ErrorIs(t, err, ErrInvalid)
}

// withoutDescriptors calls f while this process may open no descriptors.
func withoutDescriptors(t *testing.T, f func()) {
	t.Helper()
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: limit.Max}))
	defer func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) }()
	f()
}

func TestWithoutDescriptors(t *testing.T) {
	table := newTable(t)
	withoutDescriptors(t, func() {
		_, err := table.Prepare()
		require.ErrorIs(t, err, unix.EMFILE, "the reaper")
	})
	id, err := table.Prepare()
	require.NoError(t, err)
	withoutDescriptors(t, func() {
		_, err := table.Prepare()
		require.ErrorIs(t, err, unix.EMFILE, "the room for the pidfd")
		_, err = table.Spawn(Spawn, shell("exit 0"))
		require.ErrorIs(t, err, unix.EMFILE)
	})

	// A limit this low leaves even the reserved number out of reach.
	pid := forked(t, "exec sleep 1000")
	withoutDescriptors(t, func() {
		_, err = table.Commit(id, pid)
	})
	require.ErrorIs(t, err, unix.EMFILE)
	require.ErrorIs(t, unix.Kill(pid, 0), unix.ESRCH, "no child without an entry")
	dropped(t, table)
}

func TestReservedDescriptorIsUsedForThePidfd(t *testing.T) {
	table := newTable(t)
	id, err := table.Prepare()
	require.NoError(t, err)
	pid := forked(t, "exit 3")
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 256, Max: limit.Max}))
	var filler []int
	for {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			require.ErrorIs(t, err, unix.EMFILE)
			break
		}
		filler = append(filler, fd)
	}
	sentinel, err := table.Commit(id, pid)
	for _, fd := range filler {
		require.NoError(t, unix.Close(fd))
	}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	require.NoError(t, err)
	poll(t, sentinel)
	assert.Equal(t, 3, exitOf(t, table, id))
}
