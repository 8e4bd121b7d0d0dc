"""The command `python -m goproc dump PID`: prints what each process of a running program waits for.

command.py   the command line, the exit status
program.py   which processes belong to the program; what each is, and what each of its threads waits for
record.py    reads another process's memory: its record, which _native keeps (capi/native/dump), and shared memory
stacks.py    the stacks of Python threads, from the interpreter's structures
circles.py   circles of threads that wait for each other
kernel.py    what /proc says of a process
waiting.py   what a thread waits for that has noted nothing
report.py    the text

The program takes no part: it runs no code for this, and is sent no signal. docs/design/dump.md has the reasons.
Imported by cli.py. Only the command imports this folder.
"""
