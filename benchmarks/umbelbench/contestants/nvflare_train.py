"""A silo's training script, as NVIDIA FLARE's client API wants it."""

import nvflare.client as flare
import torch
from nvflare.app_common.abstract.fl_model import FLModel

from umbelbench.contestants.nvflare_model import Silo
from umbelbench.task import named


def main() -> None:
    torch.set_num_threads(1)
    flare.init()
    task, model, loss_of = named("silo"), Silo(), torch.nn.CrossEntropyLoss()
    x, y = task.client_data(int(flare.get_site_name().removeprefix("site-")) - 1)
    while flare.is_running():
        model.load_state_dict({name: torch.as_tensor(value) for name, value in flare.receive().params.items()})
        optimizer = task.sgd(model.parameters())
        for inputs, labels in zip(x.split(task.batch), y.split(task.batch), strict=True):
            optimizer.zero_grad()
            loss_of(model(inputs), labels).backward()
            optimizer.step()
        flare.send(FLModel(params=model.state_dict(), meta={"NUM_STEPS_CURRENT_ROUND": len(y)}))


if __name__ == "__main__":
    main()
