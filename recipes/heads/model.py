"""The frozen encoder with a low-rank adapter (PEFT) and three linear heads: span, rank, verify.

Knows torch, no data. The encoder computes in bfloat16 (half the time of float32 on processors that have it), so whoever
trains keeps float32 copies of what learns.
Invariant: only the adapter, the tuned weights and the heads learn; the rest stays the encoder's.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import BertModel

HEADS = {"span": 2, "rank": 1, "verify": 3}


class HeadedEncoder(nn.Module):
    """One pass over [CLS] text [SEP] passage [SEP]: every piece scored as start and end, [CLS] for rank and verify."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the folder has no pooler; we ask for none
            encoder = BertModel.from_pretrained(
                folder,
                attn_implementation="eager",  # twice as fast as the fused one on a processor at these lengths
                add_pooling_layer=False,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        adapter = LoraConfig(
            r=settings["rank"], lora_alpha=settings["alpha"], target_modules=settings["targets"], lora_dropout=0.0
        )
        self.encoder = get_peft_model(encoder, adapter)
        for name, weight in self.encoder.named_parameters():
            if any(part in name for part in settings["tuned"]):
                weight.requires_grad_(True)
        self.encoder.to(torch.bfloat16)
        width = encoder.config.hidden_size
        self.heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in HEADS.items()})

    def forward(self, pieces: torch.Tensor, types: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """Each `[batch, pieces]`; gives span [batch, pieces, 2], rank [batch], verify [batch, 3], all float32."""
        states = self.encoder(input_ids=pieces, token_type_ids=types, attention_mask=mask).last_hidden_state.float()
        return {
            "span": self.heads["span"](states),
            "rank": self.heads["rank"](states[:, 0]).squeeze(-1),
            "verify": self.heads["verify"](states[:, 0]),
        }

    def learning(self) -> dict[str, torch.Tensor]:
        """The weights that learn, by name: what a checkpoint holds."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def take(self, weights: dict[str, torch.Tensor]) -> None:
        """Puts saved weights in; raises KeyError where one is missing."""
        with torch.no_grad():
            for name, weight in self.learning().items():
                weight.copy_(weights[name])
