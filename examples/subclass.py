# Creating a process by subclassing Process: __init__ takes the arguments, and run() runs in the new process.
"""
Called run in process Squarer-1: 0 squared is 0
Called run in process Squarer-2: 1 squared is 1
Called run in process Squarer-3: 2 squared is 4
Called run in process Squarer-4: 3 squared is 9
Called run in process Squarer-5: 4 squared is 16
"""

import multiprocessing


class Squarer(multiprocessing.Process):
    def __init__(self, number):
        super().__init__()
        self.number = number

    def run(self):
        print(f"Called run in process {self.name}: {self.number} squared is {self.number**2}")


if __name__ == "__main__":
    for number in range(5):
        process = Squarer(number)
        process.start()
        process.join()
