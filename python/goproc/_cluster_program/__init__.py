"""What pools and executors become by --cluster or GOPROC_CLUSTER, and the command `goproc cluster`.

connection.py   the program's one connection with its cluster
pool.py         Pool on the cluster, with the arguments of multiprocessing's
executor.py     ProcessPoolExecutor on the cluster
deriving.py     the class on the cluster for a program's own class
shipping.py     copies packages to the machines
unpacking.py    unpacks them there
beginning.py    makes a worker on a machine like a child of the program
command.py      prints the machines of a cluster
"""
