"""gymnasium's AsyncVectorEnv: an environment in each process, with shared memory and without."""

import multiprocessing

import gymnasium
import numpy as np


def make():
    return gymnasium.make("CartPole-v1")


def main():
    method = multiprocessing.get_start_method()
    for shared in True, False:
        envs = gymnasium.vector.AsyncVectorEnv([make] * 3, shared_memory=shared, context=method)
        observations, _ = envs.reset(seed=7)
        total = 0.0
        for step in range(30):
            observations, rewards, _, _, _ = envs.step(np.array([step % 2, 1, 0]))
            total += float(rewards.sum())
        print(shared, total, observations.round(5).tolist(), envs.call("spec")[0].id)
        envs.close()


if __name__ == "__main__":
    main()
