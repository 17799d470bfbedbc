"""The tables of what the core registers by the dozen, which :mod:`anydiff.builtin` announces. Imports nothing."""

from __future__ import annotations

#: name | help | reference in anydiff.solvers | order (weak if stochastic) | kind | calls per step | noise? | source
SOLVERS = """
ddpm                | DDPM ancestral                              | ddim:DDPM                           | 1 | ancestral      | 1 | noise | Ho et al. 2020
ddim                | DDIM with noise fraction eta                | ddim:DDIM                           | 1 | exponential    | 1 |       | Song et al. 2021
euler-ancestral     | Euler ancestral: DDIM with eta 1            | ddim:EulerAncestral                 | 1 | ancestral      | 1 | noise | Song et al. 2021
euler               | Euler in time                               | runge_kutta:Euler                   | 1 | Runge-Kutta    | 1 |       | Song et al. 2021
midpoint            | midpoint rule in time                       | runge_kutta:Midpoint                | 2 | Runge-Kutta    | 2 |       | Lipman et al. 2023
heun                | Heun in time                                | runge_kutta:Heun                    | 2 | Runge-Kutta    | 2 |       | Karras et al. 2022
rk4                 | classical Runge-Kutta in time               | runge_kutta:RK4                     | 4 | Runge-Kutta    | 4 |       | Lipman et al. 2023
edm                 | EDM: Heun in the noise level, with churn    | runge_kutta:EDMHeun                 | 2 | Runge-Kutta    | 2 |       | Karras et al. 2022
rho-kutta           | Kutta's method in the noise level           | runge_kutta:RhoKutta                | 3 | Runge-Kutta    | 3 |       | Zhang and Chen 2023
rho-rk4             | classical Runge-Kutta in the noise level    | runge_kutta:RhoRK4                  | 4 | Runge-Kutta    | 4 |       | Zhang and Chen 2023
dpm-solver-1        | DPM-Solver of order 1: DDIM                 | dpm_solver:DPMSolver1               | 1 | singlestep     | 1 |       | Lu et al. 2022
dpm-solver-2        | DPM-Solver of order 2                       | dpm_solver:DPMSolver2               | 2 | singlestep     | 2 |       | Lu et al. 2022
dpm-solver-3        | DPM-Solver of order 3                       | dpm_solver:DPMSolver3               | 3 | singlestep     | 3 |       | Lu et al. 2022
dpm-solver-fast     | DPM-Solver of orders 1, 2, 3 for the budget | dpm_solver:DPMSolverFast            | 3 | singlestep     | 3 |       | Lu et al. 2022
dpm-solver++-2s     | DPM-Solver++ singlestep                     | dpm_solver:DPMSolverPP2S            | 2 | singlestep     | 2 |       | Lu et al. 2022
dpm-solver++-3s     | DPM-Solver++ singlestep                     | dpm_solver:DPMSolverPP3S            | 3 | singlestep     | 3 |       | Lu et al. 2022
dpm-solver++-2m     | DPM-Solver++ multistep                      | dpm_solver_pp:DPMSolverPP2M         | 2 | multistep      | 1 |       | Lu et al. 2022
dpm-solver++-3m     | DPM-Solver++ multistep, exact               | dpm_solver_pp:DPMSolverPP3M         | 3 | multistep      | 1 |       | Lu et al. 2022
sde-dpm-solver++-1  | SDE-DPM-Solver++ with noise level eta       | dpm_solver_pp:SDEDPMSolverPP1       | 1 | multistep      | 1 | noise | Lu et al. 2022
sde-dpm-solver++-2m | SDE-DPM-Solver++ multistep                  | dpm_solver_pp:SDEDPMSolverPP2M      | 2 | multistep      | 1 | noise | Lu et al. 2022
sde-dpm-solver++-3m | SDE-DPM-Solver++ multistep                  | dpm_solver_pp:SDEDPMSolverPP3M      | 2 | multistep      | 1 | noise | Lu et al. 2022
unip-2              | UniPC without corrector                     | uni_pc:UniP2                        | 2 | multistep      | 1 |       | Zhao et al. 2023
unip-3              | UniPC without corrector                     | uni_pc:UniP3                        | 3 | multistep      | 1 |       | Zhao et al. 2023
unipc-1             | predictor and free corrector                | uni_pc:UniPC1                       | 2 | multistep      | 1 |       | Zhao et al. 2023
unipc-2             | predictor and free corrector                | uni_pc:UniPC2                       | 3 | multistep      | 1 |       | Zhao et al. 2023
unipc-3             | predictor and free corrector                | uni_pc:UniPC3                       | 4 | multistep      | 1 |       | Zhao et al. 2023
unipc-2-time        | UniPC on the data, interpolated in time     | uni_pc:UniPC2Time                   | 3 | multistep      | 1 |       | after Zhao et al. 2023
unipc-3-time        | UniPC on the noise, interpolated in time    | uni_pc:UniPC3Time                   | 4 | multistep      | 1 |       | after Zhao et al. 2023
dc-solver           | UniPC-2 with compensation, one ratio a step | dc_solver:DCUniPC                   | 3 | multistep      | 1 |       | Zhao et al. 2024
velocity-adams      | Adams on the velocity, free corrector        | velocity_adams:VelocityAdams        | 4 | multistep      | 1 |       | after Zhang and Chen 2023
by-budget           | what the number of calls asks for (default) | by_budget:ByBudget                  | 6 | multistep      | 1 |       | after Zhang and Chen 2023
adams-2             | exponential Adams-Bashforth in log-SNR      | adams:Adams2                        | 2 | multistep      | 1 |       | Lu et al. 2022
adams-3             | exponential Adams-Bashforth in log-SNR      | adams:Adams3                        | 3 | multistep      | 1 |       | Lu et al. 2022
adams-4             | exponential Adams-Bashforth in log-SNR      | adams:Adams4                        | 4 | multistep      | 1 |       | Lu et al. 2022
deis-1              | DEIS tAB-1: Adams-Bashforth in time         | adams:DEIS1                         | 2 | multistep      | 1 |       | Zhang and Chen 2023
deis-2              | DEIS tAB-2: Adams-Bashforth in time         | adams:DEIS2                         | 3 | multistep      | 1 |       | Zhang and Chen 2023
deis-3              | DEIS tAB-3: Adams-Bashforth in time         | adams:DEIS3                         | 4 | multistep      | 1 |       | Zhang and Chen 2023
lms                 | linear multistep in the noise level         | adams:LMS                           | 4 | multistep      | 1 |       | Zhang and Chen 2023
s-pndm              | pseudo linear multistep of degree 2         | pndm:SPNDM                          | 2 | multistep      | 1 |       | Liu et al. 2022
f-pndm              | pseudo Runge-Kutta, then multistep          | pndm:FPNDM                          | 2 | multistep      | 1 |       | Liu et al. 2022
plms                | pseudo linear multistep, short start        | pndm:PLMS                           | 2 | multistep      | 1 |       | Liu et al. 2022
seeds-1             | exponential SDE solver, 1 stage             | seeds:SEEDS1                        | 1 | singlestep     | 1 | noise | Gonzalez et al. 2023
seeds-2             | exponential SDE solver, 2 stages            | seeds:SEEDS2                        | 2 | singlestep     | 2 | noise | Gonzalez et al. 2023
seeds-3             | exponential SDE solver, 3 stages            | seeds:SEEDS3                        | 2 | singlestep     | 3 | noise | Gonzalez et al. 2023
euler-maruyama      | reverse SDE in time                         | predictor_corrector:EulerMaruyama   | 1 | discretisation | 1 | noise | Song et al. 2021
reverse-diffusion   | reverse SDE, discretised as forward         | predictor_corrector:ReverseDiffusion | 1 | discretisation | 1 | noise | Song et al. 2021
interpolant         | ODE or SDE of a bridge, or of any path      | interpolant:InterpolantSolver       | 1 | discretisation | 1 |       | Albergo et al. 2023
rddm                | removes residual and noise from an input    | rddm:RDDMSolver                     | 1 | ancestral      | 1 |       | Liu et al. 2024
ancestral           | classes: the posterior of each entry        | ancestral:Ancestral                 | 1 | classes        | 1 | noise | Austin et al. 2021
tau-leaping         | classes: jumps by the reverse rates (Euler) | tau_leaping:TauLeaping              | 1 | classes        | 1 | noise | Campbell et al. 2022
unmasking           | classes: equal shares of the masks in order | unmasking:Unmasking                 | 1 | classes        | 1 | noise | Zheng et al. 2024
predictor-corrector | reverse diffusion and Langevin corrections  | predictor_corrector:PredictorCorrector | 1 | discretisation | 2 | noise | Song et al. 2021
"""  # noqa: E501 (a table is read by its columns)

#: name | help | class in anydiff.inverse | kind | estimate | takes | source
INVERSE_METHODS = """
mmps     | pseudo-inverse guidance, the network's Jacobian as covariance | MMPS    | guidance  | samples | linear operators, Gaussian noise                            | Rozet et al. 2024
pigdm    | pseudo-inverse guidance, inside any plan                      | PiGDM   | guidance  | samples | linear operators, Gaussian noise                            | Song et al. 2023
dps      | down the gradient of the misfit, through the network          | DPS     | guidance  | samples | any operator, any noise                                     | Chung et al. 2023
ddnm     | each prediction is put where the measurement says             | DDNM    | plan      | samples | linear operators; with Gaussian noise those of known SVD    | Wang et al. 2023
ddrm     | each singular direction by its own rule                       | DDRM    | plan      | samples | linear operators of known SVD, Gaussian noise               | Kawar et al. 2022
repaint  | known entries are pasted in, down and up again                | RePaint | plan      | samples | masks, Gaussian noise                                       | Lugmayr et al. 2022
red-diff | the state that measurement and denoiser agree on              | RedDiff | optimiser | point   | any operator, any noise                                     | Mardani et al. 2024
"""  # noqa: E501 (a table is read by its columns)

#: name | help | class in anydiff.editing | gives samples back? | takes | source
EDITS = """
edit-friendly   | inverted with independent noises, run again on the other side | EditFriendly   | exact | any stochastic plan         | Huberman-Spiegelglas et al. 2024
cycle-diffusion | encoded as the plan's own noises, decoded on the other side   | CycleDiffusion | exact | any stochastic plan         | Wu and De la Torre 2023
ddib            | along the ODE to noise and back on the other side             | DDIB           | exact | no solver: the adaptive ODE | Su et al. 2023
sdedit          | noised to a level and taken down on the other side            | SDEdit         |       | any plan                    | Meng et al. 2022
"""  # noqa: E501 (a table is read by its columns)

#: name | help | class in anydiff.inverse.operators | linear?
OPERATORS = """
mask            | some entries are observed (inpainting, gaps)       | Mask           | linear
average-pooling | weighted means, or sums, of blocks (coarser grids) | AveragePooling | linear
blur            | a convolution with periodic edges                  | Blur           | linear
radon           | line integrals at several angles (CT, parallel beams)| Radon          | linear
fourier         | some frequencies are observed (MRI)                | Fourier        | linear
matrix          | a dense matrix on flattened states                 | Matrix         | linear
sparse-matrix   | a sparse matrix on flattened states                | SparseMatrix   | linear
clipped         | values clipped to a range                          | Clipped        |
magnitude       | sizes of the Fourier transform (phase retrieval)   | Magnitude      |
quantised       | values rounded to multiples of a step              | Quantised      |
"""

#: name | help | class in anydiff.calibration | source
CALIBRATIONS = """
dc   | a ratio per step that moves the newest prediction in time   | DCSolver              | Zhao et al. 2024
v3   | statistics of the model for DPM-Solver-v3                   | DPMSolverV3Statistics | Zheng et al. 2023
s3   | all decisions of each step, by an evolutionary search       | S3                    | Liu et al. 2024
auto | which of 1,000 times are visited, for the law of the samples | AutoDiffusion        | Li et al. 2023
ot   | stored latents at a late level, coupled to noise by transport | DPMOT               | Li et al. ICCV 2023
"""
