"""What equals what, by hand: one line a decision of docs/rewards_math.md."""

import pytest

from riskpo_jax.rewards.math_answer import readings
from riskpo_jax.rewards.math_compare import same
from riskpo_jax.rewards.math_text import clean


def equal(answer: str, gold: str) -> bool:
    return any(same(a, g) for a in readings(clean(answer)) for g in readings(clean(gold)))


EQUAL = r"""
x = 2+3 = 5                              ~ 5
a+b = 5                                  ~ 5
1\frac{4}{5}                             ~ 9/5
2(3)                                     ~ 6
0.5                                      ~ \frac12
0.\overline{3}                           ~ \frac13
70,110                                   ~ 110, 70
70,110                                   ~ 70110
\$32,\!348                               ~ 32348
12 \text{ cm}                            ~ 12
12                                       ~ 12 \text{ cm}
1 \text{ m}                              ~ 100 \text{ cm}
864 \text{ square inches}                ~ 864\mbox{ inches}^2
45 \text{ miles per hour}                ~ 45\text{ mph}
\$0.054                                  ~ 5.4\text{ cents}
5 \text{ million dollars}                ~ 5000000
240 \text{ arrangements}                 ~ 240\text{ ways.}
90                                       ~ 90^\circ
\frac{\pi}{2}                            ~ 90^\circ
\cos(58^\circ)                           ~ \sin 32^\circ
50                                       ~ 50\%
50\%                                     ~ 50
50\%                                     ~ \frac12
1,2                                      ~ \{2,1\}
x=1 \text{ or } x=2                      ~ 1,2
1\pm\sqrt2                               ~ 1-\sqrt{2}, 1+\sqrt{2}
x=1, y=2                                 ~ (1,2)
(x,y)=(1,2)                              ~ (1,2)
\langle 1,2\rangle                       ~ \begin{pmatrix}1\\2\end{pmatrix}
\frac15\begin{pmatrix}1\\2\end{pmatrix}  ~ \begin{pmatrix}1/5\\2/5\end{pmatrix}
1\le x<2                                 ~ [1,2)
x<2 \text{ or } x>3                      ~ (-\infty,2)\cup(3,\infty)
\{x \mid x>2\}                           ~ (2,\infty)
\mathbb{R}\setminus\{5\}                 ~ (-\infty,5)\cup(5,\infty)
x\ne 5                                   ~ (-\infty,5)\cup(5,\infty)
82\ge g(x)\ge -80                        ~ -80\le g(x)\le 82
8r^2\ge s^2                              ~ s^2 \le 8r^2
2x+1                                     ~ y=2x+1
f(x)=2x+1                                ~ y=2x+1
f(n)=n+1                                 ~ f(x)=x+1
2x-y+3=0                                 ~ y=2x+3
\frac13 \approx 0.333                    ~ \frac13
\frac14 = 25\%                           ~ 25\%
(52)_{\text{eight}}                      ~ 52_8
\textbf{(B)}                             ~ \text{B}
east                                     ~ \text{East}
4:30 PM                                  ~ \text{4:30 p.m.}
3\text{ to }1                            ~ 3:1
6 m                                      ~ 6m
y'+y=0                                   ~ y+y'=0
5\text{ PM}                              ~ 5\text{ p.m.}
5                                        ~ 5\text{ p.m.}
5\text{ students in a month}             ~ 5
5\text{ m}                               ~ 5
5\text{ A}                               ~ 5
2^{2019}-1                               ~ 2\cdot 2^{2018}-1
\sqrt{10^{80}+1}-10^{40}                 ~ \frac{1}{\sqrt{10^{80}+1}+10^{40}}
2^{200}+\sqrt2\cdot\sqrt2-2              ~ 2^{200}
(2^{200}-1,\infty)                       ~ (\frac{2^{201}-2}{2},\infty)
\lfloor x\rfloor+1                       ~ \lfloor x+1\rfloor
e^{x^2}|x|                               ~ |x|e^{x^2}
"""
DIFFERENT = r"""
4=5                                      ~ 5
x=4=5                                    ~ 5
2x=10                                    ~ 5
x \text{ where } x=5                     ~ 5
x<5                                      ~ 5
5 \approx 6                              ~ 5
5 \text{ or } 6                          ~ 5
5,6                                      ~ 5
\pm 5                                    ~ 5
\text{not } 5                            ~ 5
5 \text{ if } x>0                        ~ 5
5 6                                      ~ 30
5\\6                                     ~ 56
5{6}                                     ~ 56
5[6]                                     ~ 11
2(3)                                     ~ 5
0.333                                    ~ \frac13
3.14                                     ~ \pi
12\text{ m}                              ~ 12\text{ cm}
12\text{ cm}                             ~ 12\text{ cm}^2
20\text{ cents}                          ~ \$20
30\text{ radians}                        ~ 30^\circ
1000\%                                   ~ 10
0.5\%                                    ~ 0.5
0.5                                      ~ 50\%
\{1,2\}                                  ~ (1,2)
(1,2)                                    ~ 1,2
[1,2]                                    ~ \{1,2\}
(1,2)                                    ~ (2,1)
(1,2)                                    ~ [1,2)
1,2                                      ~ 1,2,2
100101                                   ~ (100,102)
\begin{pmatrix}1&2\end{pmatrix}          ~ \begin{pmatrix}1\\2\end{pmatrix}
(0,36)                                   ~ (0,9)\cup(9,36)
x\ge 2                                   ~ (2,\infty)
y=-1                                     ~ x=-1
y=2x+4                                   ~ y=2x+3
5x+4                                     ~ 5x+4=0
s^2 \ge 8r^2                             ~ s^2 \le 8r^2
52_9                                     ~ 52_8
42                                       ~ 52_8
52                                       ~ 52_8
10_8                                     ~ 10
5_y                                      ~ 5
y'                                       ~ y
E_1                                      ~ E_2
b                                        ~ B
teas                                     ~ \text{east}
\text{A or B}                            ~ \text{B}
1:3                                      ~ 3:1
6                                        ~ 6m
|x|                                      ~ x
\ln 2                                    ~ \log_{10} 2
5\text{ tenths}                          ~ 5
3\text{ fourths}                         ~ 3
3\text{ sixteenths}                      ~ 3
5\text{ factorial}                       ~ 5
5\text{ negative}                        ~ 5
5\text{ at least}                        ~ 5
5\text{ incorrect}                       ~ 5
3\text{ x}                               ~ 3
3\text{ i}                               ~ 3
5\text{ a.m.}                            ~ 5\text{ p.m.}
5\text{ AM}                              ~ 5\text{ p.m.}
2^{2019}                                 ~ 2^{2019}-1
100!+1                                   ~ 100!
1                                        ~ 1-\frac{1}{2^{200}}
2^{2019}+x                               ~ 2^{2019}-x
(2^{200},\infty)                         ~ (2^{200}-1,\infty)
x=2^{200}                                ~ x=2^{200}-1
f(2^{200})                               ~ f(2^{200}-1)
3.1415926535897932                       ~ \pi
y=0.33333333333333333x                   ~ 3y=x
1.0000000000001+0                        ~ 1
\lfloor x\rfloor                         ~ \lceil x\rceil-1
|x-100|                                  ~ 100-x
\lfloor\frac{x+50}{100}\rfloor           ~ 0
"""


def lines(table: str) -> list[tuple[str, str]]:
    rows = [line for line in table.split("\n") if "~" in line]
    return [tuple(part.strip() for part in row.split("~")) for row in rows]


@pytest.mark.parametrize(("answer", "gold"), lines(EQUAL))
def test_equal(answer, gold):
    assert equal(answer, gold)


@pytest.mark.parametrize(("answer", "gold"), lines(DIFFERENT))
def test_different(answer, gold):
    assert not equal(answer, gold)
