package process

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/goproc/goproc/core/sys"
	"github.com/goproc/goproc/core/trace"
	"golang.org/x/sys/unix"
)

// Command is a program to execute.
type Command struct {
	Argv []string // a program without a slash in its name is looked up in the PATH of Env
	Env  []string // "NAME=value"
	Keep []int    // descriptors that the program inherits, under these numbers, besides 0, 1 and 2
}

// Spawn executes the command and returns its entry. See sys.Execute for what the child inherits.
func (t *Table) Spawn(m Method, c Command) (id int, err error) {
	if err := c.validate(); err != nil {
		return 0, err
	}
	path, err := c.lookUp()
	if err != nil {
		return 0, err
	}
	if id, err = t.prepare(m); err != nil {
		return 0, err
	}
	tether, err := t.Tether(id)
	if err != nil {
		return 0, errors.Join(err, t.Abort(id))
	}
	if tether != nil {
		defer func() { err = errors.Join(err, tether.Close()) }()
		c.Keep = append(slices.Clone(c.Keep), tether.Int())
	}
	// The pidfd that clone(2) can return would lie in the descriptor table of the thread that starts the child, so it
	// is opened by Commit.
	pid, err := sys.Execute(path, c.Argv, c.Env, c.Keep)
	if err != nil {
		return 0, errors.Join(err, t.Abort(id))
	}
	trace.Printf("process %d executes %s", pid, path)
	if _, err = t.Commit(id, pid); err != nil {
		return 0, err
	}
	return id, nil
}

// validate refuses arguments, variables and descriptors that no program can be given.
func (c *Command) validate() error {
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return fmt.Errorf("%w: the command is empty", ErrInvalid)
	}
	for _, text := range slices.Concat(c.Argv, c.Env) {
		if strings.ContainsRune(text, 0) {
			return fmt.Errorf("%w: embedded null byte", ErrInvalid)
		}
	}
	for _, fd := range c.Keep {
		if fd < 0 {
			return fmt.Errorf("%w: descriptor %d", ErrInvalid, fd)
		}
	}
	return nil
}

// lookUp finds the program as execvp(3) does, but in the PATH that the program will have.
func (c *Command) lookUp() (string, error) {
	name := c.Argv[0]
	if strings.Contains(name, "/") {
		return name, nil
	}
	search := "/bin:/usr/bin" // os.defpath
	for _, variable := range c.Env {
		if value, ok := strings.CutPrefix(variable, "PATH="); ok {
			search = value
			break
		}
	}
	var found error = unix.ENOENT
	for _, folder := range strings.Split(search, ":") {
		if folder == "" {
			folder = "." // execvp's old rule
		}
		path := folder + "/" + name
		info, err := os.Stat(path)
		switch {
		case err != nil || info.IsDir():
		case unix.Access(path, unix.X_OK) == nil:
			return path, nil
		default:
			found = unix.EACCES
		}
	}
	return "", fmt.Errorf("find %s in %s: %w", name, search, found)
}
