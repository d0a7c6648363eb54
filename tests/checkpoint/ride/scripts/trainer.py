"""transformers' Trainer as its users call it."""
# mypy: ignore-errors

import hashlib
import os
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

set_seed(0)
config = GPT2Config(
    n_layer=2, n_head=2, n_embd=32, vocab_size=64, n_positions=32, bos_token_id=0, eos_token_id=0
)
model = GPT2LMHeadModel(config)
generator = torch.Generator().manual_seed(0)


class Data(torch.utils.data.Dataset):
    def __init__(self, count):
        self.tokens = torch.randint(0, 64, (count, 16), generator=generator)

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


class Say(TrainerCallback):
    def on_log(self, args, state, control, logs=None, **kwargs):
        timeless = {k: v for k, v in logs.items() if "runtime" not in k and "per_second" not in k}
        print(state.global_step, timeless, flush=True)

    def on_step_end(self, *args, **kwargs):
        time.sleep(0.01)


arguments = TrainingArguments(
    output_dir="out", num_train_epochs=3, per_device_train_batch_size=4,
    gradient_accumulation_steps=2, logging_steps=3, eval_strategy="steps", eval_steps=20,
    save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True, learning_rate=1e-3,
)  # fmt: skip
trainer = Trainer(
    model=model, args=arguments, train_dataset=Data(160), eval_dataset=Data(16), callbacks=[Say()]
)
trainer.remove_callback(__import__("transformers").PrinterCallback)
done = trainer.train()
print(done.training_loss, done.global_step)
weights = b"".join(each.detach().numpy().tobytes() for each in model.parameters())
print(hashlib.sha256(weights).hexdigest())
