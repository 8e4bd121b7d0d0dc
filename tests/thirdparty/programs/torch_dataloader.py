"""PyTorch's DataLoader with workers, and its Pool, whose queues share tensors."""

import multiprocessing

import torch
import torch.multiprocessing


class Squares(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.tensor([float(index**2)])


def double(tensor):
    return tensor * 2


def main():
    method = multiprocessing.get_start_method()
    for keep in False, True:
        loader = torch.utils.data.DataLoader(
            Squares(), batch_size=8, num_workers=2, multiprocessing_context=method, persistent_workers=keep
        )
        print([[float(batch.sum()) for batch in loader] for _ in range(2)])
    with torch.multiprocessing.get_context(method).Pool(2) as pool:
        print([float(tensor.sum()) for tensor in pool.map(double, [torch.ones(n) for n in range(4)])])


if __name__ == "__main__":
    main()
