"""asyncio's loop.run_in_executor with a ProcessPoolExecutor: results, exceptions, many calls at once, a time limit."""

import asyncio
import math
import time
from concurrent.futures import ProcessPoolExecutor


def is_prime(number):
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


def refuse(number):
    raise ValueError(f"no {number}")


async def main():
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(2) as executor:
        numbers = range(2000, 2100)
        primes = await asyncio.gather(*(loop.run_in_executor(executor, is_prime, number) for number in numbers))
        print([number for number, prime in zip(numbers, primes, strict=True) if prime])
        try:
            await loop.run_in_executor(executor, refuse, 7)
        except ValueError as error:
            print(error)
        try:
            await asyncio.wait_for(loop.run_in_executor(executor, time.sleep, 0.5), 0.1)
        except asyncio.TimeoutError:
            print("given up")
        print(await loop.run_in_executor(executor, sum, [1, 2, 3]))


if __name__ == "__main__":
    asyncio.run(main())
