package sys

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestRoom(t *testing.T) {
	var room Room
	assert.True(t, room.Allows(1))
	assert.Equal(t, roomStep-1, room.left)
	assert.True(t, room.Allows(roomStep-1))
	assert.Zero(t, room.left)
	assert.True(t, room.Allows(3*roomStep))
	assert.False(t, room.Allows(1<<61), "more than there are addresses")
	assert.True(t, room.Allows(1))
}

func TestThreads(t *testing.T) {
	made, refuse := 0, error(nil)
	before := AddThread
	defer func() { AddThread = before }()
	AddThread = func() error { made++; return refuse }
	var threads Threads
	require.NoError(t, threads.Take())
	assert.Zero(t, made, "there is one from the start")
	require.NoError(t, threads.Take())
	assert.Equal(t, 1, made)
	threads.Give()
	require.NoError(t, threads.Take())
	assert.Equal(t, 1, made, "the thread was kept")
	refuse = unix.EAGAIN
	require.ErrorIs(t, threads.Take(), unix.EAGAIN)
	threads.Give()
	require.NoError(t, threads.Take())
}
