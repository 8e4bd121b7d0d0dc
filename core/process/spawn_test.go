package process

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestSpawnErrorsLeaveNothing(t *testing.T) {
	table := newTable(t)
	for _, c := range []struct {
		command Command
		want    error
	}{
		{Command{}, ErrInvalid},
		{Command{Argv: []string{""}}, ErrInvalid},
		{Command{Argv: []string{"/bin/true", "a\x00b"}}, ErrInvalid},
		{Command{Argv: []string{"/bin/true"}, Env: []string{"A=\x00"}}, ErrInvalid},
		{Command{Argv: []string{"/bin/true"}, Keep: []int{-1}}, ErrInvalid},
		{Command{Argv: []string{"/bin/true"}, Keep: []int{19999}}, unix.EBADF},
		{Command{Argv: []string{"/nowhere/at/all"}}, unix.ENOENT},
		{Command{Argv: []string{"nowhere-at-all"}}, unix.ENOENT},
		{Command{Argv: []string{"passwd"}, Env: []string{"PATH=/nowhere:/etc"}}, unix.EACCES},
		{Command{Argv: []string{"/etc"}}, unix.EACCES},
	} {
		_, err := table.Spawn(Spawn, c.command)
		require.ErrorIs(t, err, c.want, "%q", c.command)
	}
	dropped(t, table)
	assert.Zero(t, table.Started(Spawn))
}

func TestSpawnLooksTheProgramUpInItsOwnPath(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(folder+"/goproc-test-program", []byte("#!/bin/sh\nexit 17\n"), 0o700))
	table := newTable(t)
	id, err := table.Spawn(Spawn, Command{Argv: []string{"goproc-test-program"}, Env: []string{"PATH=/nowhere:" + folder}})
	require.NoError(t, err)
	assert.Equal(t, 17, exitOf(t, table, id))
	id, err = table.Spawn(Spawn, Command{Argv: []string{"true"}})
	require.NoError(t, err, "the system's folders without a PATH")
	assert.Zero(t, exitOf(t, table, id))
}

func ExampleTable_Spawn() {
	table := NewTable()
	id, err := table.Spawn(Spawn, Command{Argv: []string{"sh", "-c", "exit 3"}})
	if err != nil {
		panic(err)
	}
	ended := make(chan int)
	_ = table.OnExit(id, func(status int) { ended <- status })
	fmt.Println("exit code", <-ended)
	table.Forget(id)
	_ = table.Close()
	// Output: exit code 3
}
