"""What a run leaves behind: its folder, who may write it, where everything lies in it, and the record of a round."""

from fairyring.records.round_record import RoundRecord

__all__ = ["RoundRecord"]
