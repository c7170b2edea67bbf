// Addresses of a layer's activations (im2col): for each group of rows every pixel's window again, in steps of
// COLUMNS activations in the order of K, zeros where the window hangs over the image. Activations lie in
// words of COLUMNS bytes; a pixel's channels are together and begin a word. A step a cycle where `whole`:
// channels fill words, or the kernel is 1 by 1 (what is then past K in a step is not fixed). Else an
// activation a cycle: a step takes COLUMNS cycles, a pixel K. The descriptor stays while it works; no
// multiplier is needed. Bits: 2 * 16 + 4 * ADDRESS + 8 * COLUMNS and about 150 of counters.
module windows #(
    parameter integer COLUMNS = 8,   // a power of two
    parameter integer ADDRESS = 24
) (
    input  logic                 clk,
    input  logic                 rst,
    input  logic                 start,       // for one cycle
    input  logic [         20:0] groups,      // how often all pixels are gone through
    input  logic                 whole,
    input  logic [         24:0] channels,
    input  logic [          6:0] kernel_rows,
    input  logic [          6:0] kernel_columns,
    input  logic [          6:0] stride,
    input  logic [          6:0] padding,
    input  logic [         14:0] height,      // of the image; 1, as width, for a linear layer
    input  logic [         14:0] width,
    input  logic [         14:0] out_rows,
    input  logic [         14:0] out_columns,
    input  logic [  ADDRESS-1:0] origin,      // word of the first window's first activation; below 0 wraps
    input  logic [  ADDRESS-1:0] pitch,       // words of a pixel
    input  logic [  ADDRESS-1:0] row_pitch,   // words of an image row
    input  logic [  ADDRESS-1:0] pixel_step,  // stride * pitch
    input  logic [  ADDRESS-1:0] row_step,    // stride * row_pitch
    // the memory: a read that is taken has its word out from the next cycle until the next one is taken
    output logic                 read_valid,
    input  logic                 read_ready,
    output logic [  ADDRESS-1:0] read_address,
    input  logic [COLUMNS*8-1:0] read_word,
    // the steps
    output logic                 out_valid,
    input  logic                 out_ready,
    output logic [COLUMNS*8-1:0] out
);
    localparam integer LANE = $clog2(COLUMNS);

    // -- where the next activation is
    logic running;
    logic [20:0] groups_left;
    logic [14:0] out_row, out_column;
    logic [6:0] kernel_row, kernel_column;
    logic [24:0] channel;
    logic signed [16:0] top, left;  // of the window, in the image
    logic [ADDRESS-1:0] at_row, at_window, at_kernel_row, at_pixel;
    logic [LANE-1:0] lane;          // of the step that is collected

    wire [24:0] after = channel + (whole ? COLUMNS[24:0] : 25'd1);
    wire last_channel = after >= channels;
    wire last_kernel_column = kernel_column == kernel_columns - 7'd1;
    wire last_kernel_row = kernel_row == kernel_rows - 7'd1;
    wire last_column = out_column == out_columns - 15'd1;
    wire last_row = out_row == out_rows - 15'd1;
    wire pixel_ends = last_channel && last_kernel_column && last_kernel_row;
    wire [ADDRESS-1:0] next_window = (start || (last_column && last_row)) ? origin
        : last_column ? at_row + row_step : at_window + pixel_step;

    wire signed [16:0] y = top + $signed({10'd0, kernel_row});
    wire signed [16:0] x = left + $signed({10'd0, kernel_column});
    wire in_image = !y[16] && !x[16] && y < $signed({2'd0, height}) && x < $signed({2'd0, width});
    wire [ADDRESS-1:0] word_of_channel = {{(ADDRESS - 25 + LANE) {1'b0}}, channel[24:LANE]};

    // -- what was read
    logic here, here_in_image, here_ends;
    logic [LANE-1:0] here_byte, here_lane;
    logic [COLUMNS*8-1:0] collected;
    wire [COLUMNS*8-1:0] word = here_in_image ? read_word : '0;
    wire [7:0] one = word[8*here_byte+:8];
    logic [COLUMNS*8-1:0] with_one;
    always_comb begin
        with_one = collected;
        with_one[8*here_lane+:8] = one;
    end

    assign out_valid = here && here_ends;
    assign out = whole ? word : with_one;
    wire leaves = here && (!here_ends || out_ready);
    wire may = running && (!here || leaves);
    assign read_valid = may && in_image;
    assign read_address = at_pixel + word_of_channel;
    wire goes = may && (!in_image || read_ready);

    always_ff @(posedge clk) begin
        if (rst) begin
            running <= 1'b0;
            here <= 1'b0;
        end else if (start) begin
            running <= 1'b1;
            here <= 1'b0;
        end else begin
            if (goes && pixel_ends && last_column && last_row && groups_left == 21'd1) running <= 1'b0;
            if (goes) here <= 1'b1;
            else if (leaves) here <= 1'b0;
        end
        if (start) begin
            groups_left <= groups;
            lane <= '0;
        end else if (goes) begin
            here_in_image <= in_image;
            here_ends <= whole || pixel_ends || lane == COLUMNS[LANE-1:0] - 1'b1;
            here_byte <= channel[LANE-1:0];
            here_lane <= lane;
            lane <= pixel_ends ? '0 : lane + 1'b1;
            if (pixel_ends && last_column && last_row) groups_left <= groups_left - 21'd1;
        end
        if (leaves && !here_ends) collected <= with_one;

        // The counters, the innermost first; each address is where its loop begins.
        if (start || (goes && pixel_ends && last_column && last_row)) begin
            out_row <= '0;
            top <= -$signed({10'd0, padding});
            at_row <= origin;
        end else if (goes && pixel_ends && last_column) begin
            out_row <= out_row + 15'd1;
            top <= top + $signed({10'd0, stride});
            at_row <= at_row + row_step;
        end
        if (start || (goes && pixel_ends && last_column)) begin
            out_column <= '0;
            left <= -$signed({10'd0, padding});
        end else if (goes && pixel_ends) begin
            out_column <= out_column + 15'd1;
            left <= left + $signed({10'd0, stride});
        end
        if (start || (goes && pixel_ends)) begin
            kernel_row <= '0;
            kernel_column <= '0;
            channel <= '0;
            at_window <= next_window;
            at_kernel_row <= next_window;
            at_pixel <= next_window;
        end else if (goes && last_channel && last_kernel_column) begin
            kernel_row <= kernel_row + 7'd1;
            kernel_column <= '0;
            channel <= '0;
            at_kernel_row <= at_kernel_row + row_pitch;
            at_pixel <= at_kernel_row + row_pitch;
        end else if (goes && last_channel) begin
            kernel_column <= kernel_column + 7'd1;
            channel <= '0;
            at_pixel <= at_pixel + pitch;
        end else if (goes) begin
            channel <= after;
        end
    end
endmodule
