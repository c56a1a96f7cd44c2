"""NVIDIA FLARE's simulator with its FedAvg recipe: a process for each silo, all rounds in one go.

Its simulator starts a process for each client that has a thread of the simulator; with fewer threads than clients it
ends and starts them for every turn, so there are as many threads as silos.
"""

import argparse
import os
from pathlib import Path

import torch
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from nvflare.recipe.sim_env import SimEnv

from umbelbench.contestants.nvflare_model import Silo
from umbelbench.gate import Gate
from umbelbench.task import named

TRAIN = Path(__file__).with_name("nvflare_train.py")
FINAL = "server/simulate_job/app_server/FL_global_model.pt"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--result", required=True)
    options = parser.parse_args()
    gate, silos = Gate(), named("silo").population
    recipe = FedAvgRecipe(
        name="silo", model=Silo(), min_clients=silos, num_rounds=options.rounds, train_script=str(TRAIN)
    )
    gate.wait()
    workspace = Path(os.getcwd()) / "nvflare"
    recipe.execute(SimEnv(num_clients=silos, num_threads=silos, workspace_root=str(workspace)))
    state = torch.load(workspace / "silo" / FINAL)["model"]
    arrays = [state[name].numpy() for name, _ in Silo().named_parameters()]
    gate.finish(options.result, arrays, [list(range(silos))] * options.rounds)


if __name__ == "__main__":
    main()
