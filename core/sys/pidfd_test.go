package sys

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// child starts a shell script and opens its pidfd.
func child(t *testing.T, script string) (pid int, pidfd *FD) {
	t.Helper()
	pid, err := Execute("/bin/sh", []string{"sh", "-c", script}, nil, nil)
	require.NoError(t, err)
	pidfd, err = PidfdOpen(pid)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pidfd.Close()) })
	return pid, pidfd
}

// await waits until the process has ended, not reaping it.
func await(t *testing.T, pidfd *FD) {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(pidfd.Int()), Events: unix.POLLIN}}
	n, err := retry(func() (int, error) { return unix.Poll(fds, 10_000) })
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

func TestPidfdWait(t *testing.T) {
	for script, want := range map[string]int{
		"exit 0":        0,
		"exit 255":      255,
		"kill -KILL $$": -9,
		"kill -SEGV $$": -11,
		"kill -ABRT $$": -6,
	} {
		pid, pidfd := child(t, script)
		await(t, pidfd)
		status, ended, err := Wait(pid)
		require.NoError(t, err)
		assert.True(t, ended, script)
		assert.Equal(t, want, status, script)
		_, _, err = Wait(pid)
		require.ErrorIs(t, err, unix.ECHILD, "a status is given once")
	}
}

func TestPidfdSignal(t *testing.T) {
	pid, pidfd := child(t, "exec sleep 1000")
	_, ended, err := Wait(pid)
	require.NoError(t, err)
	assert.False(t, ended)
	readable, err := Readable(pidfd)
	require.NoError(t, err)
	assert.False(t, readable)

	require.ErrorIs(t, Signal(pid, pidfd, 1000), unix.EINVAL)
	require.NoError(t, Signal(pid, pidfd, unix.SIGTERM))
	await(t, pidfd)
	require.NoError(t, Signal(pid, pidfd, unix.SIGTERM), "to a zombie")
	status, ended, err := Wait(pid)
	require.NoError(t, err)
	assert.True(t, ended)
	assert.Equal(t, -15, status)
	require.NoError(t, Signal(pid, pidfd, unix.SIGTERM), "to nobody")
}

func TestPidfdOfNobody(t *testing.T) {
	pid, pidfd := child(t, "exit 0")
	await(t, pidfd)
	_, _, err := Wait(pid)
	require.NoError(t, err)
	_, err = PidfdOpen(pid)
	require.ErrorIs(t, err, unix.ESRCH)
}

func TestKillAndReap(t *testing.T) {
	pid, _ := child(t, "exec sleep 1000")
	KillAndReap(pid)
	_, _, err := Wait(pid)
	require.ErrorIs(t, err, unix.ECHILD)
	KillAndReap(pid)           // again, when it is nobody's
	KillAndReap(unix.Getpid()) // not a child: left alone
}

func TestReadableOfAClosedDescriptor(t *testing.T) {
	f, err := AlwaysReadable("test")
	require.NoError(t, err)
	readable, err := Readable(f)
	require.NoError(t, err)
	assert.True(t, readable)
	number := f.Int()
	require.NoError(t, f.Close())
	stale := NewFD(number, "stale")
	_, err = Readable(stale)
	require.ErrorIs(t, err, unix.EBADF)
	require.Error(t, stale.Close())
}
