"""The colours of a world, on the page, in pictures and in films.

Black means no food. A field adds `1 - exp(-v / glow)` of its colour, so that a colour always stands for the same amount and never
saturates. Bacteria range from `HUNGRY` to `FED` with their energy, and have the colour `TUMBLING` while they tumble; the table on the
page uses the same colour for tumbling.

What must be told apart differs in lightness, or from blue to yellow, and never by red and green alone: about one man in twelve sees
these badly, or not at all. `tests/ecology/watch/test_palette.py` measures this as protanopes and deuteranopes see it.
"""

BACKGROUND = (7, 10, 17)
FOOD = (180, 66, 0)
SIGNAL = (0, 40, 255)
HUNGRY = (140, 152, 186)
FED = (176, 232, 255)
TUMBLING = (255, 232, 80)
FOOD_GLOW = 0.6  # units a cell at which food has 63 % of its brightness
SIGNAL_GLOW = 0.3  # likewise for the signal, which is sensed from a twentieth of a unit
SATED = 2.0  # energy of full brightness in films; on the page it is the energy of division
