"""Accuracy of Fashion-MNIST models, one flat row each: python -m umbelbench.accuracy MODELS.npy"""

import json
import sys

import numpy as np
import torch

from umbelbench import fashion


@torch.no_grad()
def main() -> None:
    (x, y), net = fashion.test(), fashion.net()
    shares = []
    for row in np.load(sys.argv[1]):
        torch.nn.utils.vector_to_parameters(torch.from_numpy(row).float(), net.parameters())
        shares.append(float((net(x).argmax(1) == y).float().mean()))
    print(json.dumps(shares))


if __name__ == "__main__":
    main()
