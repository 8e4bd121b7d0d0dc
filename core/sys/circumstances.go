package sys

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Circumstances is what a program inherits through execve(2) from the thread that executes it, but for its descriptors,
// its working folder, its environment and its arguments.
type Circumstances struct {
	// Blocked and Ignored are sets of signals: the bit n-1 stands for the signal n.
	Blocked, Ignored uint64
	// Rest says the rest. It means nothing but that two that are equal are alike.
	Rest string
}

// statusLines are those of /proc/thread-self/status that programs inherit.
var statusLines = []string{
	"Umask", "Uid", "Gid", "Groups", "NSpgid", "NSsid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
	"NoNewPrivs", "Seccomp", "Seccomp_filters", "Cpus_allowed", "Mems_allowed", "THP_enabled",
}

// namespaces are those of /proc/thread-self/ns that a thread can leave.
var namespaces = []string{"cgroup", "ipc", "mnt", "net", "pid_for_children", "time_for_children", "user", "uts"}

// ReadCircumstances says what a program would inherit if the calling thread executed it now.
func ReadCircumstances() (c Circumstances, err error) {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return c, fmt.Errorf("read what a program inherits: %w", err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		values[name] = strings.TrimSpace(value)
	}
	for name, set := range map[string]*uint64{"SigBlk": &c.Blocked, "SigIgn": &c.Ignored} {
		if *set, err = strconv.ParseUint(values[name], 16, 64); err != nil {
			return c, fmt.Errorf("read what a program inherits: %s: %w", name, err)
		}
	}
	var rest strings.Builder
	for _, name := range statusLines {
		rest.WriteString(values[name] + "\n")
	}
	for _, name := range namespaces {
		target, _ := os.Readlink("/proc/thread-self/ns/" + name) // one that this kernel has not is alike everywhere
		rest.WriteString(target + "\n")
	}
	for _, name := range []string{"cgroup", "oom_score_adj"} {
		content, _ := os.ReadFile("/proc/thread-self/" + name)
		rest.Write(content)
	}
	root, _ := os.Readlink("/proc/thread-self/root")
	nice, _ := unix.Getpriority(unix.PRIO_PROCESS, 0)
	policy, _, _ := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, 0, 0, 0)
	ioPriority, _, _ := unix.RawSyscall(unix.SYS_IOPRIO_GET, 1, 0, 0)
	fmt.Fprintln(&rest, root, nice, policy, ioPriority)
	for resource := range 16 { // RLIM_NLIMITS
		var limit unix.Rlimit
		_ = unix.Prlimit(0, resource, nil, &limit)
		fmt.Fprintln(&rest, limit.Cur, limit.Max)
	}
	for stream := range 3 {
		var stat unix.Stat_t
		_ = unix.Fstat(stream, &stat) // a closed one is alike to a closed one
		fmt.Fprintln(&rest, stat.Dev, stat.Ino, stat.Mode, stat.Rdev)
	}
	c.Rest = rest.String()
	return c, nil
}
