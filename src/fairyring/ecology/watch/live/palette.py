"""The colours of a world, on the page and in films.

Black means no food. A field adds `1 - exp(-v / glow)` of its colour, so that a colour always stands for the same amount and never
saturates. Bacteria range from `HUNGRY` to `FED` with their energy, and have the colour `TUMBLING` while they tumble; the table on the
page uses the same colour for tumbling.
"""

BACKGROUND = (7, 10, 17)
FOOD = (255, 62, 66)
SIGNAL = (52, 120, 255)
HUNGRY = (38, 92, 66)
FED = (140, 255, 176)
TUMBLING = (255, 200, 92)
FOOD_GLOW = 0.6  # units a cell at which food has 63 % of its brightness
SIGNAL_GLOW = 0.3  # likewise for the signal, which is sensed from a twentieth of a unit
SATED = 2.0  # energy of full brightness in films; on the page it is the energy of division
